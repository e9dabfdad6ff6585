@ mangle FORWARD 46
-j CLASSIFY --set-class 0:ffff ; -j CLASSIFY --set-class 0000:ffff ; OK
-j CLASSIFY --set-class 1:1 ; -j CLASSIFY --set-class 0001:0001 ; OK
-j CLASSIFY --set-class 1 ; Bad class value "1" ; FAIL
-j CLASSIFY ; CLASSIFY: option "--set-class" must be specified ; FAIL
-j CLASSIFY --set-class 10000:0 ; -j CLASSIFY --set-class 0000:0000 ; OK
-j CLASSIFY --set-class x:y ; Bad class value "x:y" ; FAIL
