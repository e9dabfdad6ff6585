@ mangle FORWARD 46
-p tcp -j TCPOPTSTRIP --strip-options 2,3,4,5,6,7 ; = ; OK
-p tcp -j TCPOPTSTRIP --strip-options wscale,mss,sack-permitted,sack,timestamp,md5 ; -p tcp -j TCPOPTSTRIP --strip-options 2,3,4,5,8,19 ; OK
-p tcp -j TCPOPTSTRIP --strip-options 0,1,255 ; Option value may not be 0 or 1 ; FAIL
-p tcp -j TCPOPTSTRIP ; = ; OK
-p tcp -j TCPOPTSTRIP --strip-options foo ; Bad TCP option value "foo" ; FAIL
-j TCPOPTSTRIP --strip-options 5 ; Invalid argument. ; FAIL
-p tcp -j TCPOPTSTRIP --strip-options 256 ; Bad TCP option value "256" ; FAIL
