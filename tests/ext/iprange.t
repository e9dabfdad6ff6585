@ filter FORWARD 4
-m iprange --src-range 1.1.1.1-1.1.1.2 ; = ; OK
-m iprange ! --src-range 1.1.1.1 --dst-range 2.2.2.2-3.3.3.3 ; -m iprange ! --src-range 1.1.1.1-1.1.1.1 --dst-range 2.2.2.2-3.3.3.3 ; OK
-m iprange --dst-range 3.3.3.3-1.1.1.1 ; = ; OK
-m iprange --src-range 1.1.1.1- ; iprange: Bad value for "--src-range" option: "" ; FAIL
-m iprange --src-range 1.1.1.1-x ; iprange: Bad value for "--src-range" option: "x" ; FAIL
-m iprange --src-range 1.1.1.1-1.1.1.2 --src-range 1.1.1.1-1.1.1.2 ; iprange: option "--src-range" can only be used once. ; FAIL
-m iprange --src-range -1.1.1.1 ; iprange: Bad value for "--src-range" option: "" ; FAIL
@ filter FORWARD 46
-m iprange ; iprange match: You must specify `--src-range' or `--dst-range' ; FAIL
-m iprange --src-range x ; iprange: Bad value for "--src-range" option: "x" ; FAIL
@ filter FORWARD 6
-m iprange --src-range 1.1.1.1-x ; iprange: Bad value for "--src-range" option: "1.1.1.1" ; FAIL
-m iprange --src-range 2001:db8::1-2001:db8::f ; = ; OK
-m iprange ! --dst-range ::1 ; -m iprange ! --dst-range ::1-::1 ; OK
@ filter INPUT 4
-m iprange ! --dst-range 1.2.3.4-1.2.3.5 ; = ; OK
-m iprange ! --dst-range ::1-::2 ; iprange: Bad value for "--dst-range" option: "::1" ; FAIL
-m iprange ! --src-range ::1-::2 --dst-range ::3 ; iprange: Bad value for "--src-range" option: "::1" ; FAIL
@ filter INPUT 6
-m iprange ! --dst-range ::1-::2 ; = ; OK
-m iprange ! --src-range ::1-::2 --dst-range ::3 ; -m iprange ! --src-range ::1-::2 --dst-range ::3-::3 ; OK
@ filter FORWARD 4
-m iprange --src-range 10.1.0.10-10.1.0.11 ; = ; OK
@ filter FORWARD 6
-m iprange --src-range 2001:db8:a::10-2001:db8:a::11 ; = ; OK
