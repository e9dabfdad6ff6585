@ filter FORWARD 46
-m mac --mac-source 42:01:02:03:04:05 ; = ; OK
-m mac ! --mac-source 42:1:2:F3:A4:05 ; -m mac ! --mac-source 42:01:02:f3:a4:05 ; OK
-m mac --mac-source zz:11 ; Invalid MAC address specified. ; FAIL
-m mac ; mac: option "--mac-source" must be specified ; FAIL
-m mac --mac-source 42:01:02:03:04:05:06 ; Invalid MAC address specified. ; FAIL
-m mac --mac-source 02:00:00:00:01:02 ; = ; OK
