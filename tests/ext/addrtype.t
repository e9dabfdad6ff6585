-m addrtype --src-type LOCAL ; = ; OK
-m addrtype ; addrtype: you must specify --src-type or --dst-type ; FAIL
-m addrtype --src-type foo ; addrtype: bad type "foo" ; FAIL
-m addrtype --src-type LOCAL --limit-iface-in --limit-iface-out ; addrtype: option "--limit-iface-in" cannot be used together with "--limit-iface-out". ; FAIL
-m addrtype --src-type LOCAL --limit-iface-out ; Invalid argument. ; FAIL
-m addrtype --src-type LOCAL --src-type LOCAL ; addrtype: option "--src-type" can only be used once. ; FAIL
-m addrtype --limit-iface-in ; addrtype: you must specify --src-type or --dst-type ; FAIL
-m addrtype ! --dst-type '' ; addrtype: bad type "" ; FAIL
@ filter INPUT 4
-m addrtype ! --src-type unicast,LOCAL --dst-type BROADCAST,ANYCAST --limit-iface-in ; -m addrtype ! --src-type UNICAST,LOCAL --dst-type BROADCAST,ANYCAST --limit-iface-in ; OK
-m addrtype --dst-type UNSPEC,UNICAST,LOCAL,BROADCAST,ANYCAST,MULTICAST,BLACKHOLE,UNREACHABLE,PROHIBIT,THROW,NAT,XRESOLVE ; = ; OK
-m addrtype --src-type THROW ; = ; OK
@ filter INPUT 6
-m addrtype ! --src-type unicast,LOCAL --dst-type BROADCAST,ANYCAST --limit-iface-in ; Invalid argument. ; FAIL
-m addrtype --dst-type UNSPEC,UNICAST,LOCAL,BROADCAST,ANYCAST,MULTICAST,BLACKHOLE,UNREACHABLE,PROHIBIT,THROW,NAT,XRESOLVE ; Invalid argument. ; FAIL
-m addrtype --src-type THROW ; Invalid argument. ; FAIL
@ filter FORWARD 6
-m addrtype --dst-type BROADCAST ; Invalid argument. ; FAIL
-m addrtype --dst-type LOCAL ; = ; OK
-m addrtype ! --dst-type MULTICAST --limit-iface-in ; = ; OK
-m addrtype --dst-type UNREACHABLE ; = ; OK
@ filter INPUT 46
-m addrtype ! --dst-type LOCAL ; = ; OK
-m addrtype ! --src-type UNICAST ; = ; OK
@ filter FORWARD 46
-m addrtype --src-type LOCAL --limit-iface-out ; = ; OK
-m addrtype --dst-type LOCAL --limit-iface-in ; = ; OK
@ raw PREROUTING 46
-m addrtype --src-type UNICAST ; = ; OK
