@ filter FORWARD 46
-p tcp -m tcpmss --mss 42 ; = ; OK
-p tcp -m tcpmss ! --mss 42: ; -p tcp -m tcpmss ! --mss 42:65535 ; OK
-p tcp -m tcpmss --mss :5 ; -p tcp -m tcpmss --mss 0:5 ; OK
-m tcpmss --mss 5 ; Invalid argument. ; FAIL
-p tcp -m tcpmss ; tcpmss: option "--mss" must be specified ; FAIL
-p tcp -m tcpmss --mss 65536 ; tcpmss: bad value for option "--mss" near "65536", or out of range (0-65535). ; FAIL
-p tcp -m tcpmss --mss 5:1 ; tcpmss: invalid range given ; FAIL
-p udp -m tcpmss --mss 4 ; Invalid argument. ; FAIL
-p tcp -m tcpmss --mss 0:65535 ; = ; OK
