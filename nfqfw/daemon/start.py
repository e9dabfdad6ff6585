"""Start a daemon in the background, from `nfqfw up -b` or from a command that found none, and wait until it serves.

The child gets a pipe; it writes "ready" once it serves (and is attached, if it has rules), or the reason why it cannot.
"""

import os
import select
import sys
import time

from nfqfw import limits
from nfqfw.errors import NfqfwError


def start_daemon(arguments: list[str]) -> None:
    """Run `python -m nfqfw.daemon ARGUMENTS --ready-fd N` detached; returns when it serves.

    NfqfwError with the child's own words if it ends first, or does not get ready within DAEMON_START_SECONDS.
    """
    ready, theirs = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    os.set_inheritable(theirs, True)
    package_parent = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    # -P: what stands in the caller's working directory must not be imported as root
    command = [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {package_parent!r}); "
               "from nfqfw.daemon.service import main; sys.exit(main(sys.argv[1:]))", *arguments, "--ready-fd", str(theirs)]
    try:
        os.posix_spawn(sys.executable, command, child_environment(), setsid=True, setsigdef=range_of_signals(),
                       file_actions=[(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)])
    finally:
        os.close(theirs)
        os.close(null)
    message = read_until_closed(ready)
    if message != "ready":
        raise NfqfwError(message or "the daemon ended while it started", "see what `nfqfw up` (in the foreground) says", 4)


def child_environment() -> dict[str, str]:
    """Ours, but for what concerns one command only."""
    return {name: value for name, value in os.environ.items() if name not in ("NFQFW_STATE", "TZ")}


def range_of_signals() -> list[int]:
    """Signals that the child must not inherit as ignored: a `nohup` or a shell's `&` ignores some."""
    import signal
    return [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD]


def read_until_closed(fd: int) -> str:
    """What the child writes before it closes its end, or "ready" as soon as that is there."""
    deadline = time.monotonic() + limits.DAEMON_START_SECONDS
    text = b""
    try:
        while text != b"ready":
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                return f"the daemon did not get ready within {limits.DAEMON_START_SECONDS} s"
            part = os.read(fd, 4096)
            if not part:
                break
            text += part
    finally:
        os.close(fd)
    return text.decode(errors="replace").strip()
