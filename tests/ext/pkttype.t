@ filter FORWARD 46
-m pkttype --pkt-type unicast ; = ; OK
-m pkttype ! --pkt-type BROADCAST ; -m pkttype ! --pkt-type broadcast ; OK
-m pkttype --pkt-type multicast ; = ; OK
-m pkttype --pkt-type host ; -m pkttype --pkt-type unicast ; OK
-m pkttype --pkt-type otherhost ; = ; OK
-m pkttype ; pkttype: option "--pkt-type" must be specified ; FAIL
-m pkttype --pkt-type foo ; Bad packet type 'foo' ; FAIL
