@ filter FORWARD 46
-m quota --quota 500 ; = ; OK
-m quota ! --quota 900 ; = ; OK
-m quota --quota 0 ; = ; OK
-m quota ! --quota 18446744073709551615 ; = ; OK
-m quota --quota 18446744073709551616 ; quota: bad value for option "--quota", or out of range (0-18446744073709551615). ; FAIL
-m quota ; quota: option "--quota" must be specified ; FAIL
-m quota --quota x ; quota: bad value for option "--quota", or out of range (0-18446744073709551615). ; FAIL
