@ filter FORWARD 6
-m hl --hl-eq 5 ; = ; OK
-m hl ! --hl-eq 5 ; = ; OK
-m hl --hl 5 ; -m hl --hl-eq 5 ; OK
-m hl --hl-lt 9 ; = ; OK
-m hl --hl-gt 255 ; = ; OK
-m hl ; HL match: You must specify one of `--hl-eq', `--hl-lt', `--hl-gt' ; FAIL
-m hl --hl-eq 256 ; hl: bad value for option "--hl-eq", or out of range (0-255). ; FAIL
-m hl --hl-lt 1 --hl-gt 2 ; hl: option "--hl-lt" cannot be used together with "--hl-gt". ; FAIL
-m hl --hl-eq x ; hl: bad value for option "--hl-eq", or out of range (0-255). ; FAIL
@ filter FORWARD 6
-m hl --hl-gt 8 ; = ; OK
