@ mangle FORWARD 46
-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu ; = ; OK
-p tcp -m tcp --syn -j TCPMSS --set-mss 1400 ; -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j TCPMSS --set-mss 1400 ; OK
-p tcp -j TCPMSS --set-mss 500 ; Invalid argument. ; FAIL
-j TCPMSS --set-mss 500 ; Invalid argument. ; FAIL
-p tcp -m tcp --syn -j TCPMSS ; TCPMSS target: At least one parameter is required ; FAIL
-p tcp -m tcp --syn -j TCPMSS --set-mss 5 --clamp-mss-to-pmtu ; -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j TCPMSS --clamp-mss-to-pmtu ; OK
-p tcp -m tcp --syn -j TCPMSS --set-mss 0 ; -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j TCPMSS --set-mss 0 ; OK
-p tcp -m tcp ! --syn -j TCPMSS --set-mss 9 ; Invalid argument. ; FAIL
@ mangle FORWARD 4
-p tcp -m tcp --syn -j TCPMSS --set-mss 65536 ; TCPMSS: bad value for option "--set-mss", or out of range (0-65515). ; FAIL
@ mangle FORWARD 6
-p tcp -m tcp --syn -j TCPMSS --set-mss 65536 ; TCPMSS: bad value for option "--set-mss", or out of range (0-65495). ; FAIL
