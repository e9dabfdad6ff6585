@ mangle FORWARD 46
-j CONNSECMARK --save ; = ; OK
-j CONNSECMARK --restore ; = ; OK
-j CONNSECMARK ; CONNSECMARK target: parameter required ; FAIL
-j CONNSECMARK --save --restore ; CONNSECMARK: option "--save" cannot be used together with "--restore". ; FAIL
