-j CT --notrack ; Invalid argument ; FAIL
@ raw PREROUTING 46
-j CT ; = ; OK
-j CT --notrack ; = ; OK
-j CT --ctevents new,destroy ; = ; OK
-j CT --ctevents mark,new,related,reply,assured,protoinfo,helper,natseqinfo,secmark ; -j CT --ctevents new,related,reply,assured,protoinfo,helper,mark,natseqinfo,secmark ; OK
-j CT --expevents new ; = ; OK
-j CT --zone 12 ; = ; OK
-j CT --zone 65535 ; = ; OK
-j CT --zone mark ; = ; OK
-j CT --zone-orig 5 ; = ; OK
-j CT --zone-reply mark ; = ; OK
-j CT --ctevents foo ; Unknown event type "foo" ; FAIL
-j CT --zone 65536 ; Cannot parse 65536 as a zone ID ; FAIL
@ raw PREROUTING 4
-p tcp -j CT --helper ftp ; = ; OK
-p tcp -j CT --helper irc --zone 3 ; = ; OK
-p udp -j CT --helper nosuch ; No chain/target/match by that name ; FAIL
-p udp -j CT --helper ftp ; No chain/target/match by that name ; FAIL
-j CT --helper ftp ; No chain/target/match by that name ; FAIL
! -p tcp -j CT --helper ftp ; No chain/target/match by that name ; FAIL
-p tcp -j CT --timeout x ; = ; OK ; 1.8.9: FAIL
@ raw PREROUTING 6
-p tcp -j CT --helper ftp ; = ; OK
-p tcp -j CT --helper irc ; No chain/target/match by that name ; FAIL
-p tcp -j CT --timeout x ; = ; OK ; 1.8.9: FAIL
