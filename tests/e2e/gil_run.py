"""`nfqfw run` beside a thread that takes the GIL for as long as a line on stdin says: "2.0" holds it two seconds.

Answers each line with "held" when it is over.  Run by test_gil.py as a program, with run's own arguments.
"""

import ctypes
import sys
import threading

from nfqfw.__main__ import main

usleep = ctypes.PyDLL(None).usleep      # PyDLL calls keep the GIL


def hold_on_request() -> None:
    for line in sys.stdin:
        usleep(int(float(line) * 1e6))
        print("held", flush=True)


threading.Thread(target=hold_on_request, daemon=True).start()
sys.exit(main())
