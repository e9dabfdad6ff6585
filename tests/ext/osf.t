@ filter FORWARD 4
-p tcp -m osf --genre linux ; = ; OK
-p tcp -m osf --genre linux --ttl 2 --log 1 ; = ; OK
-p tcp -m osf ! --genre FreeBSD --ttl 0 ; = ; OK
-m osf --genre linux ; Invalid argument. ; FAIL
-p tcp -m osf ; osf: option "--genre" must be specified ; FAIL
-p tcp -m osf --genre linux --ttl 3 ; osf: bad value for option "--ttl", or out of range (0-2). ; FAIL
-p tcp -m osf --genre linux --log 3 ; osf: bad value for option "--log", or out of range (0-2). ; FAIL
-p udp -m osf --genre linux ; Invalid argument. ; FAIL
