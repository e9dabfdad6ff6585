@ filter FORWARD 6
-m eui64 ; = ; OK
-m eui64 ! --foo ; unknown option "--foo" ; FAIL
@ filter OUTPUT 6
-m eui64 ; Invalid argument. ; FAIL
