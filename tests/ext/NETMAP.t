@ nat POSTROUTING 4
-j NETMAP --to 1.2.3.0/24 ; = ; OK
-j NETMAP --to 1.2.3.4 ; -j NETMAP --to 1.2.3.4/32 ; OK
-j NETMAP --to 10.0.0.0/255.255.0.0 ; -j NETMAP --to 10.0.0.0/16 ; OK
-j NETMAP --to 1.2.3.0/255.0.255.0 ; -j NETMAP --to 1.2.3.0/32 ; OK
-j NETMAP --to 1.2.3.0/33 ; -j NETMAP --to 1.2.3.0/32 ; OK
@ nat POSTROUTING 46
-j NETMAP ; NETMAP: option "--to" must be specified ; FAIL
@ nat POSTROUTING 6
-j NETMAP --to dead::/64 ; = ; OK
-j NETMAP --to dead::beef ; -j NETMAP --to dead::beef/128 ; OK
