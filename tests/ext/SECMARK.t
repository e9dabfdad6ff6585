@ mangle FORWARD 46
-j SECMARK ; SECMARK: option "--selctx" must be specified ; FAIL
@ mangle FORWARD 46
-j SECMARK --selctx system_u:object_r:x_t:s0 ; = ; OK ; 1.8.9: FAIL
