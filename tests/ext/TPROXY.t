@ mangle PREROUTING 4
-p tcp -j TPROXY --on-port 12345 --on-ip 10.0.0.1 --tproxy-mark 0x23/0xff ; = ; OK
-p udp -j TPROXY --on-port 12345 --on-ip 10.0.0.1 ; -p udp -j TPROXY --on-port 12345 --on-ip 10.0.0.1 --tproxy-mark 0x0/0x0 ; OK
-p tcp -m tcp --dport 2342 -j TPROXY --on-port 12345 ; -p tcp -m tcp --dport 2342 -j TPROXY --on-port 12345 --on-ip 0.0.0.0 --tproxy-mark 0x0/0x0 ; OK
-p tcp -j TPROXY --on-port 65536 ; Port "65536" does not resolve to anything. ; FAIL ; 1.8.9: -p tcp -j TPROXY --on-port 0 --on-ip 0.0.0.0 --tproxy-mark 0x0/0x0
-p tcp -j TPROXY --on-port 0 --tproxy-mark 5 ; -p tcp -j TPROXY --on-port 0 --on-ip 0.0.0.0 --tproxy-mark 0x5/0xffffffff ; OK
-p tcp -j TPROXY --on-port ssh ; -p tcp -j TPROXY --on-port 22 --on-ip 0.0.0.0 --tproxy-mark 0x0/0x0 ; OK
@ mangle PREROUTING 6
-p tcp -m tcp --dport 2342 -j TPROXY --on-port 12345 ; -p tcp -m tcp --dport 2342 -j TPROXY --on-port 12345 --on-ip :: --tproxy-mark 0x0/0x0 ; OK
-p tcp -j TPROXY --on-port 65536 ; Port "65536" does not resolve to anything. ; FAIL ; 1.8.9: -p tcp -j TPROXY --on-port 0 --on-ip :: --tproxy-mark 0x0/0x0
-p tcp -j TPROXY --on-port 0 --tproxy-mark 5 ; -p tcp -j TPROXY --on-port 0 --on-ip :: --tproxy-mark 0x5/0xffffffff ; OK
-p tcp -j TPROXY --on-port ssh ; -p tcp -j TPROXY --on-port 22 --on-ip :: --tproxy-mark 0x0/0x0 ; OK
-p tcp -j TPROXY --on-port 12345 --on-ip 2001:db8::1 --tproxy-mark 0x23/0xff ; = ; OK
-p udp -j TPROXY --on-port 12345 ; -p udp -j TPROXY --on-port 12345 --on-ip :: --tproxy-mark 0x0/0x0 ; OK
-p tcp -j TPROXY --on-port 0 --on-ip ::1 ; -p tcp -j TPROXY --on-port 0 --on-ip ::1 --tproxy-mark 0x0/0x0 ; OK
@ mangle PREROUTING 46
-j TPROXY --on-port 1 ; Invalid argument. ; FAIL
-p tcp -j TPROXY ; TPROXY: option "--on-port" must be specified ; FAIL
! -p tcp -j TPROXY --on-port 1 ; Invalid argument. ; FAIL
