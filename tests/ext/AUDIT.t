@ filter FORWARD 46
-j AUDIT --type accept ; = ; OK
-j AUDIT --type drop ; = ; OK
-j AUDIT --type reject ; = ; OK
-j AUDIT ; AUDIT: option "--type" must be specified ; FAIL
-j AUDIT --type foo ; Bad action type value "foo" ; FAIL
-j AUDIT ! --type drop ; AUDIT: option "--type" cannot be inverted. ; FAIL
