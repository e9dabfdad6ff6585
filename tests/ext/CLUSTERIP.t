@ filter INPUT 4
-d 1.2.3.4/32 -i lo -j CLUSTERIP ; No chain/target/match by that name. ; FAIL ; 1.8.9: FAIL
