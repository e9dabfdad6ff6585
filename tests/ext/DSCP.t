@ mangle FORWARD 46
-j DSCP --set-dscp 0 ; -j DSCP --set-dscp 0x00 ; OK
-j DSCP --set-dscp 0x3f ; = ; OK
-j DSCP --set-dscp 64 ; DSCP: bad value for option "--set-dscp", or out of range (0-63). ; FAIL
-j DSCP --set-dscp-class EF ; -j DSCP --set-dscp 0x2e ; OK
-j DSCP --set-dscp-class AF99 ; Invalid DSCP value `AF99' ; FAIL
-j DSCP ; DSCP target: Parameter --set-dscp is required ; FAIL
-j DSCP --set-dscp 1 --set-dscp-class EF ; DSCP: option "--set-dscp" cannot be used together with "--set-dscp-class". ; FAIL
