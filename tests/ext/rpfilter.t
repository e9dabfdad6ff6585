@ raw PREROUTING 46
-m rpfilter ; = ; OK
-m rpfilter --loose --validmark ; = ; OK
-m rpfilter --validmark --accept-local --invert ; = ; OK
-m rpfilter ! --loose ; rpfilter: option "--loose" cannot be inverted. ; FAIL
-m rpfilter --loose --loose ; rpfilter: option "--loose" can only be used once. ; FAIL
