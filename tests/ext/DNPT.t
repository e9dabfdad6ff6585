@ mangle PREROUTING 6
-j DNPT --src-pfx dead::/64 --dst-pfx 1c3::/64 ; = ; OK
-j DNPT --src-pfx dead::/64 ; DNPT: option "--dst-pfx" must be specified ; FAIL
-j DNPT --dst-pfx 1c3::/64 ; DNPT: option "--src-pfx" must be specified ; FAIL
-j DNPT ; DNPT: option "--src-pfx" must be specified ; FAIL
-j DNPT --src-pfx dead::/65 --dst-pfx 1c3::/64 ; Invalid argument. ; FAIL
-j DNPT --src-pfx dead::/48 --dst-pfx 1c3::/48 ; = ; OK
