@ mangle PREROUTING 46
-m socket ; = ; OK
-m socket --transparent --nowildcard ; = ; OK
-m socket --nowildcard --restore-skmark --transparent ; -m socket --transparent --nowildcard --restore-skmark ; OK
-m socket --restore-skmark ; = ; OK
-m socket ! --transparent ; socket: option "--transparent" cannot be inverted. ; FAIL
