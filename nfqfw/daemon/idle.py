"""Is this network namespace still in use?  An autostarted daemon ends when it is not.

Our own sockets keep the namespace alive, so the kernel will never end it while we stay.  It is in use while another process
is in it, or while a bind mount of it remains (`ip netns add` makes one).  A namespace that only an open descriptor of
another process holds is not seen; design.md section 9 names the two conditions.
"""

import os
from collections.abc import Iterator


def netns_in_use(ours: frozenset[int]) -> bool:
    """True if a process other than `ours` is in our network namespace, or a mount of it is left in any mount namespace."""
    namespace = os.stat("/proc/self/ns/net")
    identity = (namespace.st_dev, namespace.st_ino)
    seen_mounts: set[tuple[int, int]] = set()
    for pid in processes():
        if pid not in ours and inode(pid, "net") == identity:
            return True
        mounts = inode(pid, "mnt")
        if mounts is not None and mounts not in seen_mounts:
            seen_mounts.add(mounts)
            if mounts_namespace(pid, namespace.st_ino):
                return True
    return False


def processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def inode(pid: int, kind: str) -> tuple[int, int] | None:
    """Identity of a namespace of a process; None if the process is gone, a zombie, or not ours to look at."""
    try:
        found = os.stat(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return None
    return found.st_dev, found.st_ino


def mounts_namespace(pid: int, number: int) -> bool:
    """True if a mount of the network namespace with that inode number is visible to the process.

    /proc/PID/mountinfo, field 4 (root of the mount) reads "net:[4026532177]" for it.
    """
    wanted = f" net:[{number}] ".encode()
    try:
        with open(f"/proc/{pid}/mountinfo", "rb") as file:
            return wanted in file.read()
    except OSError:
        return False
