@ filter FORWARD 46
-m physdev --physdev-in eth0 ; = ; OK
-m physdev ! --physdev-in eth+ ! --physdev-out lo ; = ; OK
-m physdev --physdev-is-in ; = ; OK
-m physdev ! --physdev-is-out --physdev-is-bridged ; = ; OK
-m physdev ! --physdev-is-bridged ; = ; OK
-m physdev ; PHYSDEV: no physdev option specified ; FAIL
-m physdev --physdev-in + ; = ; OK
-m physdev --physdev-out eth0 --physdev-is-bridged ; = ; OK
-m physdev --physdev-in aaaaaaaaaaaaaaaaaaaa ; must be shorter than 16 characters ; FAIL ; 1.8.9: FAIL
-m physdev ! --physdev-in + ; = ; OK
-m physdev --physdev-is-in --physdev-in eth0 ; = ; OK
@ filter FORWARD 46
-m physdev ! --physdev-is-in ; = ; OK
-m physdev --physdev-out lo ; = ; OK
-m physdev --physdev-is-out ; = ; OK
-m physdev ! --physdev-out lo --physdev-is-bridged ; = ; OK
-m physdev ! --physdev-is-bridged ! --physdev-in lo ! --physdev-is-out ; -m physdev ! --physdev-in lo ! --physdev-is-out ! --physdev-is-bridged ; OK
