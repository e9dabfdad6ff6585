-m cluster --cluster-total-nodes 2 --cluster-local-node 1 --cluster-hash-seed 123 ; -m cluster --cluster-local-nodemask 0x00000001 --cluster-total-nodes 2 --cluster-hash-seed 0x0000007b ; OK
-m cluster --cluster-total-nodes 2 ! --cluster-local-nodemask 3 --cluster-hash-seed 0xdeadbeef ; -m cluster ! --cluster-local-nodemask 0x00000003 --cluster-total-nodes 2 --cluster-hash-seed 0xdeadbeef ; OK
-m cluster --cluster-total-nodes 2 ! --cluster-local-node 2 --cluster-hash-seed 1 ; -m cluster ! --cluster-local-nodemask 0x00000002 --cluster-total-nodes 2 --cluster-hash-seed 0x00000001 ; OK
-m cluster --cluster-total-nodes 33 --cluster-local-node 1 --cluster-hash-seed 123 ; cluster: bad value for option "--cluster-total-nodes", or out of range (1-32). ; FAIL
-m cluster --cluster-total-nodes 2 --cluster-local-node 3 --cluster-hash-seed 123 ; cluster match: `--cluster-local-node' must be <= `--cluster-total-nodes' ; FAIL
-m cluster --cluster-total-nodes 2 --cluster-local-node 1 ; cluster: option "--cluster-hash-seed" must be specified ; FAIL
-m cluster --cluster-total-nodes 2 --cluster-local-nodemask 8 --cluster-hash-seed 123 ; cluster match: `--cluster-local-nodemask' too big for `--cluster-total-nodes' ; FAIL
-m cluster --cluster-total-nodes 2 --cluster-hash-seed 123 ; cluster match: `--cluster-local-node' or`--cluster-local-nodemask' is missing ; FAIL
-m cluster --cluster-local-node 1 --cluster-hash-seed 123 ; cluster: option "--cluster-total-nodes" must be specified ; FAIL
-m cluster ; cluster match: `--cluster-local-node' or`--cluster-local-nodemask' is missing ; FAIL
-m cluster --cluster-total-nodes 2 --cluster-local-node 1 --cluster-local-nodemask 1 --cluster-hash-seed 123 ; cluster: option "--cluster-local-node" cannot be used together with "--cluster-local-nodemask". ; FAIL
@ filter FORWARD 6
-m cluster --cluster-total-nodes 2 --cluster-local-node 1 --cluster-hash-seed 1 ; -m cluster --cluster-local-nodemask 0x00000001 --cluster-total-nodes 2 --cluster-hash-seed 0x00000001 ; OK
@ mangle PREROUTING 46
-m cluster --cluster-local-nodemask 0x00000016 --cluster-total-nodes 32 --cluster-hash-seed 0x00000000 ; = ; OK
-m cluster ! --cluster-local-nodemask 0x00000019 --cluster-total-nodes 5 --cluster-hash-seed 0xffffffff ; = ; OK
-m cluster --cluster-local-nodemask 0x00000001 --cluster-total-nodes 1 --cluster-hash-seed 0x00000001 ; = ; OK
-m cluster --cluster-local-nodemask 0x00000004 --cluster-total-nodes 3 --cluster-hash-seed 0x00000001 ; = ; OK
-m cluster --cluster-total-nodes 32 --cluster-local-node 6 --cluster-hash-seed 1 ; -m cluster --cluster-local-nodemask 0x00000020 --cluster-total-nodes 32 --cluster-hash-seed 0x00000001 ; OK
-m cluster --cluster-local-nodemask 0x80000000 --cluster-total-nodes 32 --cluster-hash-seed 0x00000001 ; = ; OK ; 1.8.9: FAIL
