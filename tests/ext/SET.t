@ mangle PREROUTING 46
-j SET --add-set foo src ; Set foo doesn't exist. ; FAIL
-j SET ; You must specify either `--add-set' or `--del-set' or `--map-set' ; FAIL
-j SET --add-set foo ; --add-set requires two args. ; FAIL
