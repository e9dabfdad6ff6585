@ filter FORWARD 46
-m devgroup --src-group 0x3 ; = ; OK
-m devgroup ! --dst-group 0x1/0xff --src-group 5 ; -m devgroup --src-group 0x5 ! --dst-group 0x1/0xff ; OK
-m devgroup ; devgroup match: You must specify either '--src-group' or '--dst-group' ; FAIL
-m devgroup --src-group x ; devgroup: could not map name x to an integer value for option "--src-group". ; FAIL
-m devgroup --src-group 0 ; -m devgroup --src-group default ; OK
@ filter FORWARD 46
-m devgroup ! --src-group 1 ; -m devgroup ! --src-group 0x1 ; OK
-m devgroup ! --dst-group 1 ; -m devgroup ! --dst-group 0x1 ; OK
