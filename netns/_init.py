"""First process of a lab's pid namespace: when it ends, the kernel kills every process of the lab.

Run as a program by `netns.processes`, with the parent's pipe as stdin.  It ends when that pipe is closed (close of the lab) and,
should a forked copy of the pipe outlive the creator, by the parent-death signal.  It also gives the lab a /proc of its own.
"""

import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))     # run with -I -S: no path but the library's

from netns import _linux  # noqa: E402


def main() -> None:
    _linux.die_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)       # orphans of the lab are reaped by the kernel
    _linux.unshare(_linux.CLONE_NEWNS)
    _linux.mount(None, "/", None, _linux.MS_REC | _linux.MS_PRIVATE)
    _linux.mount("proc", "/proc", "proc")
    os.write(1, b"ready")
    while os.read(0, 64):
        pass


main()
