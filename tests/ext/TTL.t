@ mangle FORWARD 4
-j TTL --ttl-set 0 ; = ; OK
-j TTL --ttl-set 255 ; = ; OK
-j TTL --ttl-dec 1 ; = ; OK
-j TTL --ttl-inc 255 ; = ; OK
-j TTL ; TTL: You must specify an action ; FAIL
-j TTL --ttl-set 256 ; TTL: bad value for option "--ttl-set", or out of range (0-255). ; FAIL
-j TTL --ttl-inc 0 ; TTL: bad value for option "--ttl-inc", or out of range (1-255). ; FAIL
-j TTL --ttl-set 1 --ttl-inc 1 ; TTL: option "--ttl-set" cannot be used together with "--ttl-inc". ; FAIL
-j TTL --ttl-dec 0 ; TTL: bad value for option "--ttl-dec", or out of range (1-255). ; FAIL
