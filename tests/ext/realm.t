@ filter FORWARD 4
-m realm --realm 0x1/0x2a ; = ; OK
-m realm ! --realm 5 ; -m realm ! --realm 0x5 ; OK
-m realm --realm foo ; realm: could not map name foo to an integer value for option "--realm". ; FAIL
-m realm ; realm: option "--realm" must be specified ; FAIL
-m realm --realm 0 ; -m realm --realm cosmos ; OK
-m realm --realm default ; realm: could not map name default to an integer value for option "--realm". ; FAIL
-m realm --realm cosmos ; = ; OK
-m realm --realm 0x2a/0xffffffff ; -m realm --realm 0x2a ; OK
-m realm --realm 10/4 ; -m realm --realm 0xa/0x4 ; OK
