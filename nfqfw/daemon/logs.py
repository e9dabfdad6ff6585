"""Where the words of a daemon go: to the terminal in the foreground; in the background to RUN/<cookie>/log and the kernel's log.

A LOG rule writes to the kernel's log, where its users look for it, as the kernel's own target would.  The kernel keeps quiet
about namespaces other than the first (nf_log_all_netns = 0); we do not: each has its own daemon, which is told to log.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from nfqfw.daemon import wire

KERNEL_LOG = "/dev/kmsg"
WARNING = 4                     # the level of LOG rules that do not say
LINE_BYTES = 900                # of one record: the kernel refuses more than about 1,000 (PRINTKRB_RECORD_MAX 1,024)
FILE_BYTES = 1 << 20            # the daemon's own log begins anew beyond this; the one before is kept as log.1


def to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def print_lines(kind: str, lines: list[str]) -> None:
    """LOG lines to standard error, walks of packets to standard output."""
    print("\n".join(lines), file=sys.stderr if kind == "log" else sys.stdout, flush=True)


class FileLog:
    """Messages of a background daemon, with the time."""

    def __init__(self, path: str | None = None) -> None:
        self.path = path or os.path.join(wire.daemon_directory(), "log")

    def __call__(self, text: str) -> None:
        try:
            if os.path.exists(self.path) and os.path.getsize(self.path) > FILE_BYTES:
                os.replace(self.path, self.path + ".1")
            with open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{time.strftime('%FT%T%z')} {text.rstrip()}\n")
        except OSError:
            pass                                        # the directory goes away with us; there is nobody to tell


def background_lines(own: Callable[[str], None], kernel_log: str = KERNEL_LOG) -> Callable[[str, list[str]], None]:
    """on_lines of a background daemon: LOG lines to the kernel's log, or to `own` where that cannot be written; walks to `own`."""
    try:
        fd = os.open(kernel_log, os.O_WRONLY | os.O_CLOEXEC | os.O_APPEND)
    except OSError:
        fd = -1

    def on_lines(kind: str, lines: list[str]) -> None:
        if kind != "log" or fd < 0:
            own("\n".join(lines))
            return
        for line in lines:
            try:
                os.write(fd, f"<{WARNING}>{line}\n".encode(errors="backslashreplace")[:LINE_BYTES])
            except OSError:
                pass                                    # EAGAIN: the kernel limits the rate; lines are lost as its own are

    return on_lines
