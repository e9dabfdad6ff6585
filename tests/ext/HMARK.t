@ filter FORWARD 4
-j HMARK --hmark-tuple src --hmark-mod 5 --hmark-rnd 0xdeafbeef ; -j HMARK --hmark-src-prefix 32 --hmark-rnd 0xdeafbeef --hmark-mod 5 ; OK
-j HMARK --hmark-tuple src,dst,sport,dport,proto --hmark-rnd 4294967295 --hmark-mod 4294967295 ; -j HMARK --hmark-src-prefix 32 --hmark-dst-prefix 32 --hmark-sport-mask 0xffff --hmark-dport-mask 0xffff --hmark-proto-mask 0xffff --hmark-rnd 0xffffffff --hmark-mod 4294967295 ; OK
@ filter FORWARD 6
-j HMARK --hmark-tuple src --hmark-mod 5 --hmark-rnd 0xdeafbeef ; -j HMARK --hmark-src-prefix 128 --hmark-rnd 0xdeafbeef --hmark-mod 5 ; OK
-j HMARK --hmark-tuple src,dst,sport,dport,proto --hmark-rnd 4294967295 --hmark-mod 4294967295 ; -j HMARK --hmark-src-prefix 128 --hmark-dst-prefix 128 --hmark-sport-mask 0xffff --hmark-dport-mask 0xffff --hmark-proto-mask 0xffff --hmark-rnd 0xffffffff --hmark-mod 4294967295 ; OK
@ filter FORWARD 46
-j HMARK --hmark-offset 0x3 --hmark-tuple src,dst,sport,dport,proto --hmark-mod 5 --hmark-rnd 1 --hmark-src-prefix 24 --hmark-dst-prefix 16 --hmark-sport-mask 0xff --hmark-dport-mask 0xf ; HMARK: option "--hmark-src-prefix" can only be used once. ; FAIL
-j HMARK --hmark-tuple ct --hmark-mod 5 --hmark-rnd 1 ; -j HMARK --hmark-rnd 0x00000001 --hmark-mod 5 --hmark-tuple ct ; OK
-j HMARK --hmark-tuple spi --hmark-mod 5 --hmark-rnd 1 --hmark-spi-mask 5 ; HMARK: option "--hmark-spi-mask" can only be used once. ; FAIL
-j HMARK ; --hmark-mod is mandatory ; FAIL
-j HMARK --hmark-tuple src --hmark-mod 0 --hmark-rnd 1 ; HMARK: bad value for option "--hmark-mod", or out of range (1-4294967295). ; FAIL
-j HMARK --hmark-tuple foo --hmark-mod 5 --hmark-rnd 1 ; Bad type "foo" ; FAIL
-j HMARK --hmark-tuple src --hmark-rnd 1 ; --hmark-mod is mandatory ; FAIL
-j HMARK --hmark-mod 5 --hmark-tuple src ; --hmark-rnd is mandatory ; FAIL
-j HMARK --hmark-src-prefix 24 --hmark-dst-prefix 16 --hmark-sport-mask 0xff --hmark-dport-mask 0xf --hmark-sport 3 --hmark-dport 4 --hmark-proto-mask 5 --hmark-rnd 1 --hmark-mod 7 --hmark-offset 9 ; -j HMARK --hmark-src-prefix 24 --hmark-dst-prefix 16 --hmark-sport-mask 0x00ff --hmark-dport-mask 0x000f --hmark-sport 0x0003 --hmark-dport 0x0004 --hmark-proto-mask 0x05 --hmark-rnd 0x00000001 --hmark-mod 7 --hmark-offset 9 ; OK
-j HMARK --hmark-spi-mask 5 --hmark-spi 3 --hmark-rnd 1 --hmark-mod 7 ; -j HMARK --hmark-spi-mask 0x00000005 --hmark-spi 0x00000003 --hmark-rnd 0x00000001 --hmark-mod 7 ; OK
@ mangle PREROUTING 6
-j HMARK --hmark-tuple src --hmark-mod 5 --hmark-rnd 1 --hmark-src-prefix 64 ; HMARK: option "--hmark-src-prefix" can only be used once. ; FAIL
