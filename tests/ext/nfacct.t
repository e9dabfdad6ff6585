@ filter FORWARD 46
-m nfacct --nfacct-name x ; = ; OK ; 1.8.9: FAIL
-m nfacct ; nfacct: option "--nfacct-name" must be specified ; FAIL
