@ mangle POSTROUTING 6
-j SNPT --src-pfx dead::/64 --dst-pfx 1c3::/64 ; = ; OK
-j SNPT --src-pfx dead::/64 ; SNPT: option "--dst-pfx" must be specified ; FAIL
-j SNPT ; SNPT: option "--src-pfx" must be specified ; FAIL
-j SNPT --src-pfx dead::/48 --dst-pfx 1c3::/48 ; = ; OK
