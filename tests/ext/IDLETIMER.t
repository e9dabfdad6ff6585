@ filter FORWARD 46
-j IDLETIMER --timeout 5 --label foo ; = ; OK
-j IDLETIMER --timeout 42 --label bar --alarm ; = ; OK
-j IDLETIMER ; IDLETIMER: option "--timeout" must be specified ; FAIL
-j IDLETIMER --timeout 0 --label x ; Invalid argument. ; FAIL
-j IDLETIMER --label x ; IDLETIMER: option "--timeout" must be specified ; FAIL
-j IDLETIMER --timeout 5 ; IDLETIMER: option "--label" must be specified ; FAIL
