@ mangle FORWARD 4
-p tcp -j ECN --ecn-tcp-remove ; = ; OK
-j ECN --ecn-tcp-remove ; Invalid argument. ; FAIL
-j ECN ; ECN target: An operation is required ; FAIL
-p tcp -j ECN --ecn-tcp-remove --ecn-tcp-cwr 1 ; ECN: option "--ecn-tcp-remove" cannot be used together with "--ecn-tcp-cwr". ; FAIL
-p tcp -j ECN --ecn-tcp-cwr 0 ; = ; OK
-p tcp -j ECN --ecn-tcp-ece 1 ; = ; OK
-j ECN --ecn-ip-ect 3 ; = ; OK
-j ECN --ecn-ip-ect 4 ; ECN: bad value for option "--ecn-ip-ect", or out of range (0-3). ; FAIL
