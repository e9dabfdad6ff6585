@ filter OUTPUT 46
-m policy --dir out --pol none ; = ; OK
-m policy --dir out --pol ipsec ; = ; OK
-m policy --dir out --pol none --strict ; policy match: policy none but --strict given ; FAIL
-m policy --dir out --pol ipsec --strict ; policy match: empty policy element 0. --strict is in effect, but at least one of reqid, spi, tunnel-src, tunnel-dst, proto or mode is required. ; FAIL
-m policy --dir foo --pol none ; policy_match: invalid dir "foo" ; FAIL
-m policy --dir out --pol foo ; policy match: invalid policy "foo" ; FAIL
-m policy --dir out ; -m policy --dir out --pol ipsec ; OK
-m policy --pol none ; policy match: neither --dir in nor --dir out specified ; FAIL
-m policy --dir out --pol ipsec --reqid 5 --next --reqid 4 ; policy: option "--next" also requires "--strict". ; FAIL
-m policy --dir out --pol ipsec --mode transport ! --proto ah ! --spi 5 ! --reqid 4 ; -m policy --dir out --pol ipsec ! --reqid 4 ! --spi 0x5 ! --proto ah --mode transport ; OK
-m policy --dir out --pol ipsec --proto tcp ; policy match: protocol must be ah/esp/ipcomp ; FAIL
-m policy --dir out --pol ipsec --mode foo ; policy match: invalid mode "foo" ; FAIL
@ filter OUTPUT 4
-m policy --dir out --pol ipsec --strict --reqid 1 --spi 0x1 --proto esp --mode tunnel --tunnel-dst 10.0.0.0/8 --tunnel-src 10.0.0.0/8 --next --reqid 2 ; = ; OK
-m policy --dir out --pol ipsec --strict --reqid 1 --spi 0x1 --proto esp --tunnel-dst 10.0.0.0/8 ; policy match: --tunnel-src/--tunnel-dst is only valid in tunnel mode ; FAIL
-m policy --dir out --pol ipsec --mode transport --tunnel-src 1.2.3.4 ; policy match: --tunnel-src/--tunnel-dst is only valid in tunnel mode ; FAIL
@ filter INPUT 46
-m policy --dir in --pol ipsec --strict --reqid 1 --spi 0x1 --proto ipcomp ; = ; OK
@ filter FORWARD 6
-m policy --dir in --pol ipsec --strict --mode tunnel --tunnel-src ::1/64 ; = ; OK
@ filter INPUT 6
-m policy --dir in --pol ipsec --mode tunnel ! --tunnel-src ::1 ! --tunnel-dst ::2 ; -m policy --dir in --pol ipsec --mode tunnel ! --tunnel-dst ::2 ! --tunnel-src ::1 ; OK
-m policy --dir in --pol ipsec ! --mode tunnel ! --spi 1 ! --reqid 2 ; -m policy --dir in --pol ipsec ! --reqid 2 ! --spi 0x1 ! --mode tunnel ; OK
-m policy --dir in --pol ipsec --mode tunnel --tunnel-dst ::/64 ; = ; OK
@ filter INPUT 46
-m policy --dir in --strict --reqid 1 --next --spi 2 ; -m policy --dir in --pol ipsec --strict --reqid 1 --next --spi 0x2 ; OK
-m policy --dir in --pol ipsec ! --mode tunnel ; = ; OK
@ filter INPUT 4
-m policy --dir in --pol ipsec --mode tunnel ! --tunnel-src 1.2.3.4 ! --tunnel-dst 1.2.3.4 ; -m policy --dir in --pol ipsec --mode tunnel ! --tunnel-dst 1.2.3.4 ! --tunnel-src 1.2.3.4 ; OK
