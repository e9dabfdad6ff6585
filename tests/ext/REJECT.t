-p tcp -j REJECT --reject-with tcp-reset ; = ; OK
-j REJECT --reject-with tcp-reset ; Invalid argument ; FAIL
! -p tcp -j REJECT --reject-with tcp-reset ; Invalid argument ; FAIL
-j REJECT --reject-with nosuch ; unknown reject type "nosuch" ; FAIL
-j REJECT ! --reject-with tcp-reset ; REJECT: option "--reject-with" cannot be inverted. ; FAIL
@ mangle FORWARD 46
-j REJECT ; Invalid argument ; FAIL
@ filter FORWARD 4
-j REJECT ; -j REJECT --reject-with icmp-port-unreachable ; OK
-j REJECT --reject-with icmp-net-unreachable ; = ; OK
-j REJECT --reject-with icmp-host-unreachable ; = ; OK
-j REJECT --reject-with icmp-proto-unreachable ; = ; OK
-j REJECT --reject-with icmp-net-prohibited ; = ; OK
-j REJECT --reject-with icmp-host-prohibited ; = ; OK
-j REJECT --reject-with icmp-admin-prohibited ; = ; OK
-j REJECT --reject-with admin-prohib ; -j REJECT --reject-with icmp-admin-prohibited ; OK
-j REJECT --reject-with net-unreach ; -j REJECT --reject-with icmp-net-unreachable ; OK
-p tcp -j REJECT --reject-with tcp-rst ; -p tcp -j REJECT --reject-with tcp-reset ; OK
@ filter OUTPUT 6
-j REJECT ; -j REJECT --reject-with icmp6-port-unreachable ; OK
-j REJECT --reject-with icmp6-no-route ; = ; OK
-j REJECT --reject-with icmp6-adm-prohibited ; = ; OK
-j REJECT --reject-with icmp6-addr-unreachable ; = ; OK
-j REJECT --reject-with icmp6-policy-fail ; = ; OK
-j REJECT --reject-with icmp6-reject-route ; = ; OK
-j REJECT --reject-with adm-prohibited ; -j REJECT --reject-with icmp6-adm-prohibited ; OK
-j REJECT --reject-with icmp-port-unreachable ; unknown reject type "icmp-port-unreachable" ; FAIL
