@ mangle PREROUTING 6
-j HL --hl-set 0 ; = ; OK
-j HL --hl-set 255 ; = ; OK
-j HL --hl-dec 1 ; = ; OK
-j HL --hl-inc 5 ; = ; OK
-j HL ; HL: You must specify an action ; FAIL
-j HL --hl-set 256 ; HL: bad value for option "--hl-set", or out of range (0-255). ; FAIL
-j HL --hl-inc 0 ; HL: bad value for option "--hl-inc", or out of range (1-255). ; FAIL
