-j TRACE ; Invalid argument ; FAIL
@ raw PREROUTING 46
-j TRACE ; = ; OK
-j TRACE --foo ; unknown option "--foo" ; FAIL
