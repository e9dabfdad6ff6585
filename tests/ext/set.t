@ filter FORWARD 46
-m set --match-set foo src ; Set foo doesn't exist. ; FAIL
-m set ; You must specify `--match-set' with proper arguments ; FAIL
-m set --match-set foo ; --match-set requires two args. ; FAIL
