@ mangle FORWARD 46
-j CHECKSUM --checksum-fill ; = ; OK
-j CHECKSUM ; CHECKSUM: option "--checksum-fill" must be specified ; FAIL
-j CHECKSUM ! --checksum-fill ; CHECKSUM: option "--checksum-fill" cannot be inverted. ; FAIL
