@ filter INPUT 4
-m ttl --ttl-eq 5 ; = ; OK
-m ttl ! --ttl-eq 5 ; = ; OK
-m ttl --ttl 7 ; -m ttl --ttl-eq 7 ; OK
-m ttl --ttl-lt 5 ; = ; OK
-m ttl --ttl-gt 255 ; = ; OK
-m ttl ; TTL match: You must specify one of `--ttl-eq', `--ttl-lt', `--ttl-gt ; FAIL
-m ttl --ttl-eq 256 ; ttl: bad value for option "--ttl-eq", or out of range (0-255). ; FAIL
-m ttl --ttl-lt 1 --ttl-gt 2 ; ttl: option "--ttl-lt" cannot be used together with "--ttl-gt". ; FAIL
-m ttl --ttl-eq x ; ttl: bad value for option "--ttl-eq", or out of range (0-255). ; FAIL
@ filter FORWARD 4
-m ttl --ttl-lt 9 ; = ; OK
-m ttl --ttl-gt 8 ; = ; OK
