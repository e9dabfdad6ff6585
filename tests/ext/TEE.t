@ mangle PREROUTING 4
-j TEE --gateway 1.1.1.1 ; = ; OK
-j TEE --gateway 2.2.2.1 --oif eth0 ; = ; OK
-j TEE ! --gateway 2.2.2.1 ; TEE: option "--gateway" cannot be inverted. ; FAIL
-j TEE --gateway 0.0.0.0 ; Invalid argument. ; FAIL
-j TEE --gateway 1.1.1.1 --oif aaaaaaaaaaaaaaaaaaaaa ; -j TEE --gateway 1.1.1.1 --oif aaaaaaaaaaaaaaa ; OK
@ mangle PREROUTING 46
-j TEE ; TEE: option "--gateway" must be specified ; FAIL
@ mangle PREROUTING 6
-j TEE --gateway ::1 ; = ; OK
-j TEE --gateway 2001:db8::1 ; = ; OK
-j TEE --gateway :: ; Invalid argument. ; FAIL
@ mangle PREROUTING 6
-j TEE --gateway 2001:db8::1 --oif eth0 ; = ; OK
