-m cgroup --cgroup 1 ; = ; OK
-m cgroup ! --cgroup 0 ; = ; OK
-m cgroup --path / ; -m cgroup --path "/" ; OK
-m cgroup ! --path foo ; -m cgroup ! --path "foo" ; OK ; 1.8.9: FAIL
-m cgroup ; Invalid argument. ; FAIL
-m cgroup --cgroup 1 --path x ; Invalid argument. ; FAIL
-m cgroup --path 'x y' ; -m cgroup --path "x y" ; OK ; 1.8.9: FAIL
-m cgroup ! --path / ; -m cgroup ! --path "/" ; OK
@ filter OUTPUT 46
-m cgroup ! --cgroup 4294967295 ; = ; OK
