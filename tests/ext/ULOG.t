@ filter INPUT 4
-j ULOG ; No chain/target/match by that name. ; FAIL ; 1.8.9: FAIL
