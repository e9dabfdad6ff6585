"""The system calls the lab needs and Python 3.11 does not have: setns, unshare, mount, prctl.

Each raises OSError with the kernel's errno.  All of them act on the calling thread only.
"""

import ctypes
import os

CLONE_NEWNS = 0x00020000        # <linux/sched.h>
CLONE_NEWNET = 0x40000000
CLONE_NEWPID = 0x20000000
CLONE_FS = 0x00000200
MS_BIND = 4096                  # <linux/mount.h>
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1            # <linux/prctl.h>

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def setns(descriptor: int, kind: int) -> None:
    """Move the calling thread into the namespace behind `descriptor`.

    A mount namespace can be entered only by a thread that shares its working directory with no other (CLONE_FS unshared).
    """
    _call("setns", descriptor, kind)


def unshare(flags: int) -> None:
    _call("unshare", flags)


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0) -> None:
    """mount(2) without data; None = NULL."""
    source_bytes, kind_bytes = (None if text is None else text.encode() for text in (source, kind))
    _call("mount", source_bytes, target.encode(), kind_bytes, ctypes.c_ulong(flags), None)


def unmount(target: str, flags: int = MNT_DETACH) -> None:
    _call("umount2", target.encode(), flags)


def die_with_parent(signal_number: int) -> None:
    """The kernel sends this signal to the calling process when the *thread* that started it ends."""
    _call("prctl", PR_SET_PDEATHSIG, ctypes.c_ulong(signal_number), 0, 0, 0)
