-j NOTRACK ; Invalid argument ; FAIL
@ raw OUTPUT 46
-j NOTRACK ; = ; OK
