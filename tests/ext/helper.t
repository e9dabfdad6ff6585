@ filter FORWARD 46
-m helper --helper ftp ; = ; OK
-m helper ! --helper 'a b' ; -m helper ! --helper "a b" ; OK
-m helper ; helper: option "--helper" must be specified ; FAIL
-m helper --helper '' ; -m helper --helper "" ; OK
-m helper --helper aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ; -m helper --helper aaaaaaaaaaaaaaaaaaaaaaaaaaaaa ; OK
