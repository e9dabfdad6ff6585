@ filter FORWARD 46
-m hashlimit --hashlimit-upto 1000000/sec --hashlimit-burst 5 --hashlimit-name mini1 ; = ; OK
-m hashlimit --hashlimit 20000/day --hashlimit-name mini2 ; -m hashlimit --hashlimit-upto 20000/day --hashlimit-burst 5 --hashlimit-name mini2 ; OK
-m hashlimit --hashlimit-above 1/minute --hashlimit-burst 1 --hashlimit-mode srcip,dstip,srcport,dstport --hashlimit-srcmask 24 --hashlimit-dstmask 16 --hashlimit-name m3 --hashlimit-htable-size 2000 --hashlimit-htable-max 2000 --hashlimit-htable-gcinterval 60000 --hashlimit-htable-expire 2000 ; -m hashlimit --hashlimit-above 1/min --hashlimit-burst 1 --hashlimit-mode srcip,srcport,dstip,dstport --hashlimit-name m3 --hashlimit-htable-size 2000 --hashlimit-htable-max 2000 --hashlimit-htable-gcinterval 60000 --hashlimit-htable-expire 2000 --hashlimit-srcmask 24 --hashlimit-dstmask 16 ; OK
-m hashlimit --hashlimit-upto 512kb/s --hashlimit-burst 1mb --hashlimit-name m4 --hashlimit-mode srcip ; -m hashlimit --hashlimit-upto 512kb/s --hashlimit-burst 1mb --hashlimit-mode srcip --hashlimit-name m4 ; OK
-m hashlimit --hashlimit-upto 1b/s --hashlimit-name m5 ; -m hashlimit --hashlimit-upto 0b/s --hashlimit-name m5 ; OK
-m hashlimit --hashlimit-above 16/s --hashlimit-rate-match --hashlimit-rate-interval 10 --hashlimit-name m6 ; -m hashlimit --hashlimit-above 16/sec --hashlimit-burst 5 --hashlimit-name m6 --hashlimit-rate-match --hashlimit-rate-interval 10 ; OK
-m hashlimit ! --hashlimit-upto 5/s --hashlimit-name m7 ; -m hashlimit --hashlimit-above 5/sec --hashlimit-burst 5 --hashlimit-name m7 ; OK
-m hashlimit --hashlimit-upto 5/s --hashlimit-above 5/s --hashlimit-name m8 ; hashlimit: option "--hashlimit-upto" cannot be used together with "--hashlimit-above". ; FAIL
-m hashlimit --hashlimit-upto 5/s ; hashlimit: option "--hashlimit-name" must be specified ; FAIL
-m hashlimit --hashlimit-name x ; You have to specify --hashlimit ; FAIL
-m hashlimit --hashlimit-upto 5/s --hashlimit-name m9 --hashlimit-mode foo ; hashlimit: Bad value for "--hashlimit-mode" option: "foo" ; FAIL
-m hashlimit --hashlimit-upto 5/s --hashlimit-name m11 --hashlimit-burst 0 ; bad value for option "--hashlimit-burst", or out of range (1-1000000). ; FAIL
-m hashlimit --hashlimit-upto 4gb/s --hashlimit-name m12 ; hashlimit: Bad value for "--hashlimit-upto" option: "4gb/s" ; FAIL ; 1.8.9: -m hashlimit --hashlimit-upto 0b/s --hashlimit-name m12
-m hashlimit --hashlimit-upto 5/foo --hashlimit-name m13 ; hashlimit: Bad value for "--hashlimit-upto" option: "5/foo" ; FAIL
-m hashlimit --hashlimit-upto 0/s --hashlimit-name m14 ; hashlimit: Bad value for "--hashlimit-upto" option: "0/s" ; FAIL
-m hashlimit --hashlimit-upto 5/s --hashlimit-name '' ; Argument must have a minimum length of 1 characters ; FAIL
-m hashlimit --hashlimit-upto 5/s --hashlimit-name m15 --hashlimit-burst 1000001 ; bad value for option "--hashlimit-burst", or out of range (1-1000000). ; FAIL
-m hashlimit --hashlimit-upto 5/s --hashlimit-name m16 --hashlimit-burst 1mb ; bad value for option "--hashlimit-burst", or out of range (1-1000000). ; FAIL
-m hashlimit --hashlimit-upto 5kb/s --hashlimit-name m17 --hashlimit-burst 1 ; burst cannot be smaller than 5120b ; FAIL
-m hashlimit --hashlimit-upto 5/min --hashlimit-name m18 --hashlimit-mode none --hashlimit-htable-expire 1 ; hashlimit: Bad value for "--hashlimit-mode" option: "none" ; FAIL
-m hashlimit --hashlimit-upto 100000001/s --hashlimit-name m19 ; Rate too fast "100000001/s" ; FAIL
-m hashlimit --hashlimit-upto 1/hour --hashlimit-name m20 --hashlimit-mode dstip --hashlimit-dstmask 8 ; -m hashlimit --hashlimit-upto 1/hour --hashlimit-burst 5 --hashlimit-mode dstip --hashlimit-name m20 --hashlimit-dstmask 8 ; OK
-m hashlimit --hashlimit-upto 10/day --hashlimit-name m22 ; -m hashlimit --hashlimit-upto 10/day --hashlimit-burst 5 --hashlimit-name m22 ; OK
-m hashlimit --hashlimit-upto 1/day --hashlimit-name m23 ; Numerical result out of range. ; FAIL
-m hashlimit --hashlimit-upto 7mb/s --hashlimit-name m24 --hashlimit-burst 10mb ; -m hashlimit --hashlimit-upto 7mb/s --hashlimit-burst 14mb --hashlimit-name m24 ; OK
-m hashlimit --hashlimit-upto 1000b/s --hashlimit-name m25 ; -m hashlimit --hashlimit-upto 992b/s --hashlimit-name m25 ; OK
@ filter FORWARD 4
-m hashlimit --hashlimit-upto 5/s --hashlimit-name m10 --hashlimit-srcmask 33 ; Invalid argument. ; FAIL
-m hashlimit --hashlimit-upto 1/hour --hashlimit-name m21 --hashlimit-mode dstip,srcip --hashlimit-dstmask 32 --hashlimit-srcmask 0 ; -m hashlimit --hashlimit-upto 1/hour --hashlimit-burst 5 --hashlimit-mode srcip,dstip --hashlimit-name m21 --hashlimit-srcmask 0 ; OK
@ filter FORWARD 6
-m hashlimit --hashlimit-upto 5/s --hashlimit-name m10 --hashlimit-srcmask 33 ; -m hashlimit --hashlimit-upto 5/sec --hashlimit-burst 5 --hashlimit-name m10 --hashlimit-srcmask 33 ; OK
-m hashlimit --hashlimit-upto 1/hour --hashlimit-name m21 --hashlimit-mode dstip,srcip --hashlimit-dstmask 32 --hashlimit-srcmask 0 ; -m hashlimit --hashlimit-upto 1/hour --hashlimit-burst 5 --hashlimit-mode srcip,dstip --hashlimit-name m21 --hashlimit-srcmask 0 --hashlimit-dstmask 32 ; OK
-m hashlimit --hashlimit-upto 5/s --hashlimit-name v6 --hashlimit-mode srcip --hashlimit-srcmask 64 ; -m hashlimit --hashlimit-upto 5/sec --hashlimit-burst 5 --hashlimit-mode srcip --hashlimit-name v6 --hashlimit-srcmask 64 ; OK
@ filter INPUT 46
-m hashlimit --hashlimit-upto 5/s --hashlimit-name h1 --hashlimit-mode srcip --hashlimit-srcmask 0 --hashlimit-htable-size 10 --hashlimit-htable-max 20 --hashlimit-htable-gcinterval 30 --hashlimit-htable-expire 40 ; -m hashlimit --hashlimit-upto 5/sec --hashlimit-burst 5 --hashlimit-mode srcip --hashlimit-name h1 --hashlimit-htable-size 10 --hashlimit-htable-max 20 --hashlimit-htable-gcinterval 30 --hashlimit-htable-expire 40 --hashlimit-srcmask 0 ; OK
-m hashlimit ! --hashlimit-above 5/s --hashlimit-name h2 ; -m hashlimit --hashlimit-upto 5/sec --hashlimit-burst 5 --hashlimit-name h2 ; OK
-m hashlimit --hashlimit-above 5/s --hashlimit-name h3 --hashlimit-dstmask 5 --hashlimit-mode dstip ; -m hashlimit --hashlimit-above 5/sec --hashlimit-burst 5 --hashlimit-mode dstip --hashlimit-name h3 --hashlimit-dstmask 5 ; OK
