@ filter FORWARD 6
-m hbh --hbh-len 5 ; = ; OK
-m hbh ! --hbh-len 5 ; = ; OK
-m hbh --hbh-opts 1:1,23:42,42:23 ; = ; OK
-m hbh ; = ; OK
-m hbh --hbh-opts 1,2 ; = ; OK
-m hbh --hbh-len 42 --hbh-opts 1:2,2:3 ; = ; OK
@ filter FORWARD 6
-m hbh --hbh-opts 256: ; PAD0 has not got length ; FAIL
@ filter FORWARD 6
-m hbh --hbh-opts 1:4 ; = ; OK
