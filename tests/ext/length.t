@ filter FORWARD 46
-m length --length 1 ; = ; OK
-m length ! --length 1: ; -m length ! --length 1:65535 ; OK
-m length --length :2 ; -m length --length 0:2 ; OK
-m length --length 0:65535 ; = ; OK
-m length ! --length 0:65535 ; = ; OK
-m length --length 4:3 ; reversed ; FAIL ; 1.8.9: -m length --length 4:3
-m length --length 65536 ; length: bad value for option "--length" near "65536", or out of range (0-65535). ; FAIL
-m length ; length: option "--length" must be specified ; FAIL
-m length --length 1:65536 ; length: bad value for option "--length" near "65536", or out of range (0-65535). ; FAIL
@ filter FORWARD 6
-m length --length 40 ; = ; OK
