@ nat POSTROUTING 4
-j SNAT --to-source 1.1.1.1 ; = ; OK
-j SNAT --to-source 1.1.1.1-1.1.1.10 ; = ; OK
-p tcp -j SNAT --to-source 1.1.1.1:1025-65535 ; = ; OK
-p tcp -j SNAT --to-source 1.1.1.1-1.1.1.10:1025 ; = ; OK
-j SNAT --to 1.1.1.1 --random ; -j SNAT --to-source 1.1.1.1 --random ; OK
-j SNAT --to-source 1.1.1.1 --persistent ; = ; OK
-j SNAT --to-source 1.1.1.1 --random-fully ; = ; OK
-j SNAT --to-source 1.1.1.1 --random --persistent --random-fully ; -j SNAT --to-source 1.1.1.1 --random --random-fully --persistent ; OK
-j SNAT --to-source 1.1.1.1 --to-source 1.1.1.2 ; SNAT: option "--to-source" can only be used once. ; FAIL
-p tcp -j SNAT --to-source 1.1.1.1:0 ; = ; OK
@ nat POSTROUTING 6
-p tcp -j SNAT --to-source 1.1.1.1:1025-65535 ; Bad IP address "1.1.1.1" ; FAIL
-p tcp -j SNAT --to-source 1.1.1.1-1.1.1.10:1025 ; Bad IP address "1.1.1.1" ; FAIL
-p tcp -j SNAT --to-source 1.1.1.1:0 ; Bad IP address "1.1.1.1" ; FAIL
-j SNAT --to-source dead::beef ; = ; OK
-j SNAT --to-source dead::beef-dead::fee7 ; = ; OK
-p tcp -j SNAT --to-source '[dead::beef]:1025-65535' ; -p tcp -j SNAT --to-source [dead::beef]:1025-65535 ; OK
-p tcp -j SNAT --to-source '[dead::beef-dead::fee7]:1025' ; -p tcp -j SNAT --to-source [dead::beef-dead::fee7]:1025 ; OK
-j SNAT --to-source dead::beef --random ; = ; OK
-j SNAT --to-source dead::beef --persistent --random-fully ; -j SNAT --to-source dead::beef --random-fully --persistent ; OK
-j SNAT --to-source '[dead::beef' ; Invalid address format ; FAIL
@ nat POSTROUTING 46
-p tcp -j SNAT --to-source :80 ; = ; OK
-j SNAT ; SNAT: option "--to-source" must be specified ; FAIL
-j SNAT --to-source x ; Bad IP address "x" ; FAIL
-p tcp -j SNAT --to-source 1.1.1.1:99999 ; Port `99999' not valid ; FAIL
-p tcp -j SNAT --to-source 1.1.1.1:80-70 ; Port range `70' funky ; FAIL
-j SNAT --to-source 1.1.1.1:80 ; Need TCP, UDP, SCTP or DCCP with port specification ; FAIL
