-p ah -m ah --ahspi 0 ; = ; OK
-p ah -m ah ! --ahspi 1:5 ; = ; OK
-p ah --ahspi 1: ; -p ah -m ah --ahspi 1:4294967295 ; OK
-p 51 -m ah ; -p ah -m ah ; OK
-p ah --ahspi :0xff ; -p ah -m ah --ahspi 0:255 ; OK
-p ah --ahspi 5:1 ; reversed ; FAIL ; 1.8.9: -p ah -m ah --ahspi 5:1
-p ah --ahspi x ; ah: bad value for option "--ahspi" near "x", or out of range (0-4294967295). ; FAIL
-p ah --ahspi 0:4294967295 ; -p ah -m ah ; OK
-p ah ! --ahspi 0:4294967295 ; -p ah -m ah ! --ahspi 0:4294967295 ; OK ; 1.8.9: -p ah -m ah
-p ah -m ah ! --ahspi 0:4294967295 ; = ; OK ; 1.8.9: -p ah -m ah
@ filter INPUT 4
-m ah --ahspi 1 ; Invalid argument. ; FAIL
@ filter INPUT 6
-m ah --ahspi 1 ; = ; OK
@ filter FORWARD 6
-p ah -m ah --ahspi 5 ; = ; OK
-p ah --ahspi 5 ; -p ah -m ah --ahspi 5 ; OK
-m ah --ahspi 4 --ahlen 5 --ahres ; = ; OK
-m ah ! --ahspi 4:5 ! --ahlen 8 ; = ; OK
-m ah ; = ; OK
-m ah --ahlen x ; ah: bad value for option "--ahlen", or out of range (0-4294967295). ; FAIL
@ filter FORWARD 6
-m ah --ahspi 0: --ahres ; -m ah --ahres ; OK
