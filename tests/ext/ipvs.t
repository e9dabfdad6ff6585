@ filter FORWARD 46
-m ipvs --ipvs ; = ; OK ; 1.8.9: FAIL
-m ipvs ! --ipvs ; = ; OK ; 1.8.9: FAIL
-m ipvs ; IPVS: At least one option is required ; FAIL
@ filter FORWARD 4
-m ipvs --vproto tcp --vaddr 1.2.3.4 --vport 80 --vdir ORIGINAL --vmethod GATE --vportctl 21 ; -m ipvs --vproto 6 --vaddr 1.2.3.4 --vport 80 --vdir ORIGINAL --vmethod GATE --vportctl 21 ; OK ; 1.8.9: FAIL
-m ipvs ! --vproto 6 ! --vaddr 1.2.3.0/24 ! --vport 80 --vdir REPLY ! --vmethod MASQ ! --vportctl 21 ; = ; OK ; 1.8.9: FAIL
@ filter FORWARD 6
-m ipvs --vaddr ::1 ; = ; OK ; 1.8.9: FAIL
-m ipvs ! --vaddr ::1 ; = ; OK ; 1.8.9: FAIL
-m ipvs --vproto tcp --vport 80 --vdir ORIGINAL --vmethod GATE --vportctl 21 ; -m ipvs --vproto 6 --vport 80 --vdir ORIGINAL --vmethod GATE --vportctl 21 ; OK ; 1.8.9: FAIL
@ filter FORWARD 6
-m ipvs ! --vproto 6 ! --vport 80 --vdir REPLY ! --vmethod MASQ ! --vportctl 21 ; = ; OK ; 1.8.9: FAIL
