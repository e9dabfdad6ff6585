@ filter FORWARD 4
-m recent --set ; -m recent --set --name DEFAULT --mask 255.255.255.255 --rsource ; OK
-m recent --rcheck --hitcount 8 --name foo --mask 255.255.255.255 --rsource ; = ; OK
-m recent --update --rttl ; -m recent --update --rttl --name DEFAULT --mask 255.255.255.255 --rsource ; OK
-m recent --rcheck --hitcount 999 --name foo2 ; -m recent --rcheck --hitcount 999 --name foo2 --mask 255.255.255.255 --rsource ; OK
-m recent ! --update --seconds 60 --reap --hitcount 3 --name b --rdest --mask 255.255.255.0 ; -m recent ! --update --seconds 60 --reap --hitcount 3 --name b --mask 255.255.255.0 --rdest ; OK
-m recent --remove ; -m recent --remove --name DEFAULT --mask 255.255.255.255 --rsource ; OK
-m recent ! --set ; -m recent ! --set --name DEFAULT --mask 255.255.255.255 --rsource ; OK
-m recent --rcheck --hitcount 0 ; -m recent --rcheck --name DEFAULT --mask 255.255.255.255 --rsource ; OK
-m recent --rcheck --rsource --rdest ; -m recent --rcheck --name DEFAULT --mask 255.255.255.255 --rdest ; OK
-m recent --rcheck --mask 255.0.255.0 ; -m recent --rcheck --name DEFAULT --mask 255.0.255.0 --rsource ; OK
-m recent ! --rcheck --seconds 4294967295 ; -m recent ! --rcheck --seconds 4294967295 --name DEFAULT --mask 255.255.255.255 --rsource ; OK ; 1.8.9: -m recent ! --rcheck --seconds -1 --name DEFAULT --mask 255.255.255.255 --rsource
-m recent ! --remove --name x ; -m recent ! --remove --name x --mask 255.255.255.255 --rsource ; OK
-m recent --update --seconds 10 --reap --rttl ; -m recent --update --seconds 10 --reap --rttl --name DEFAULT --mask 255.255.255.255 --rsource ; OK
@ filter FORWARD 6
-m recent --set ; -m recent --set --name DEFAULT --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource ; OK
-m recent --update --rttl ; -m recent --update --rttl --name DEFAULT --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource ; OK
-m recent --rcheck --hitcount 999 --name foo2 ; -m recent --rcheck --hitcount 999 --name foo2 --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource ; OK
-m recent --remove ; -m recent --remove --name DEFAULT --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource ; OK
-m recent ! --set ; -m recent ! --set --name DEFAULT --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource ; OK
-m recent --rcheck --hitcount 0 ; -m recent --rcheck --name DEFAULT --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource ; OK
-m recent --rcheck --rsource --rdest ; -m recent --rcheck --name DEFAULT --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rdest ; OK
-m recent ! --rcheck --seconds 4294967295 ; -m recent ! --rcheck --seconds 4294967295 --name DEFAULT --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource ; OK ; 1.8.9: -m recent ! --rcheck --seconds -1 --name DEFAULT --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource
-m recent ! --remove --name x ; -m recent ! --remove --name x --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource ; OK
-m recent --update --seconds 10 --reap --rttl ; -m recent --update --seconds 10 --reap --rttl --name DEFAULT --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource ; OK
@ filter FORWARD 46
-m recent --set --rttl ; recent: option "--rttl" cannot be used together with "--set". ; FAIL
-m recent --rcheck --hitcount 65536 --name foo3 ; Invalid argument. ; FAIL
-m recent --rcheck --reap ; recent: option "--reap" also requires "--seconds". ; FAIL
-m recent --set --update ; recent: option "--set" cannot be used together with "--update". ; FAIL
-m recent --rcheck --seconds 0 ; recent: bad value for option "--seconds", or out of range (1-4294967295). ; FAIL
-m recent --rsource ; recent: you must specify one of `--set', `--rcheck' `--update' or `--remove' ; FAIL
-m recent --set --seconds 5 ; Invalid argument. ; FAIL
-m recent --set --hitcount 5 ; Invalid argument. ; FAIL
-m recent --rcheck --name a/b ; Invalid argument. ; FAIL
-m recent --name '' ; recent: you must specify one of `--set', `--rcheck' `--update' or `--remove' ; FAIL
@ filter INPUT 4
-m recent ! --rcheck ; -m recent ! --rcheck --name DEFAULT --mask 255.255.255.255 --rsource ; OK
-m recent ! --update ; -m recent ! --update --name DEFAULT --mask 255.255.255.255 --rsource ; OK
-m recent ! --remove ; -m recent ! --remove --name DEFAULT --mask 255.255.255.255 --rsource ; OK
-m recent --rcheck --rdest --name c ; -m recent --rcheck --name c --mask 255.255.255.255 --rdest ; OK
-m recent --rcheck --seconds 5 --hitcount 4 --reap ; -m recent --rcheck --seconds 5 --reap --hitcount 4 --name DEFAULT --mask 255.255.255.255 --rsource ; OK
@ filter INPUT 6
-m recent ! --rcheck ; -m recent ! --rcheck --name DEFAULT --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource ; OK
-m recent ! --update ; -m recent ! --update --name DEFAULT --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource ; OK
-m recent ! --remove ; -m recent ! --remove --name DEFAULT --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource ; OK
-m recent --rcheck --rdest --name c ; -m recent --rcheck --name c --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rdest ; OK
-m recent --rcheck --seconds 5 --hitcount 4 --reap ; -m recent --rcheck --seconds 5 --reap --hitcount 4 --name DEFAULT --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource ; OK
-m recent --rcheck --mask ffff:: ; -m recent --rcheck --name DEFAULT --mask ffff:: --rsource ; OK
@ filter FORWARD 6
-m recent --rcheck --mask ffff:: ; -m recent --rcheck --name DEFAULT --mask ffff:: --rsource ; OK
