@ filter INPUT 4
-m connlimit --connlimit-upto 0 ; -m connlimit --connlimit-upto 0 --connlimit-mask 32 --connlimit-saddr ; OK
-m connlimit ! --connlimit-above 10 --connlimit-daddr ; -m connlimit --connlimit-upto 10 --connlimit-mask 32 --connlimit-daddr ; OK
-m connlimit --connlimit-upto 4 --connlimit-mask 33 ; -m connlimit --connlimit-upto 4 --connlimit-mask 32 --connlimit-saddr ; OK
-m connlimit --connlimit-upto 4 --connlimit-mask 255.0.0.0 ; -m connlimit --connlimit-upto 4 --connlimit-mask 8 --connlimit-saddr ; OK
-m connlimit ! --connlimit-upto 3 ; -m connlimit --connlimit-above 3 --connlimit-mask 32 --connlimit-saddr ; OK
@ filter INPUT 6
-m connlimit --connlimit-upto 0 ; -m connlimit --connlimit-upto 0 --connlimit-mask 128 --connlimit-saddr ; OK
-m connlimit ! --connlimit-above 10 --connlimit-daddr ; -m connlimit --connlimit-upto 10 --connlimit-mask 128 --connlimit-daddr ; OK
-m connlimit --connlimit-upto 4 --connlimit-mask 33 ; -m connlimit --connlimit-upto 4 --connlimit-mask 33 --connlimit-saddr ; OK
-m connlimit ! --connlimit-upto 3 ; -m connlimit --connlimit-above 3 --connlimit-mask 128 --connlimit-saddr ; OK
@ filter INPUT 46
-m connlimit --connlimit-above 10 --connlimit-mask 24 ; -m connlimit --connlimit-above 10 --connlimit-mask 24 --connlimit-saddr ; OK
-m connlimit --connlimit-above 10 --connlimit-saddr --connlimit-daddr ; connlimit: option "--connlimit-saddr" cannot be used together with "--connlimit-daddr". ; FAIL
-m connlimit --connlimit-upto 4294967295 --connlimit-mask 0 ; -m connlimit --connlimit-upto 4294967295 --connlimit-mask 0 --connlimit-saddr ; OK
-m connlimit --connlimit-upto 4294967296 ; connlimit: bad value for option "--connlimit-upto", or out of range (0-4294967295). ; FAIL
-m connlimit --connlimit-upto 1 --connlimit-above 1 ; connlimit: option "--connlimit-upto" cannot be used together with "--connlimit-above". ; FAIL
-m connlimit ; You must specify "--connlimit-above" or "--connlimit-upto". ; FAIL
-m connlimit ! --connlimit-above 3 --connlimit-mask 8 ; -m connlimit --connlimit-upto 3 --connlimit-mask 8 --connlimit-saddr ; OK
@ filter FORWARD 6
-m connlimit --connlimit-above 3 ; -m connlimit --connlimit-above 3 --connlimit-mask 128 --connlimit-saddr ; OK
-m connlimit --connlimit-above 3 --connlimit-mask 64 ; -m connlimit --connlimit-above 3 --connlimit-mask 64 --connlimit-saddr ; OK
-m connlimit --connlimit-above 3 --connlimit-mask ffff:: ; -m connlimit --connlimit-above 3 --connlimit-mask 16 --connlimit-saddr ; OK
@ filter INPUT 4
-m connlimit --connlimit-upto 1 --connlimit-saddr ; -m connlimit --connlimit-upto 1 --connlimit-mask 32 --connlimit-saddr ; OK
@ filter INPUT 6
-m connlimit --connlimit-upto 1 --connlimit-saddr ; -m connlimit --connlimit-upto 1 --connlimit-mask 128 --connlimit-saddr ; OK
