"""NFQFW_STATE=FILE: the saved ruleset that applet commands edit, with no daemon and no root.

FILE holds IPv4, FILE.v6 IPv6, both as iptables-save -c writes them.  A command holds a lock on FILE.lock from its first look to
its end, and replaces the file by a rename: a reader sees the old rules or the new ones.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator

from nfqfw.rules.model import Ruleset

SUFFIXES = {2: "", 10: ".v6"}


class FileStore:
    """A Store on two files."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.rulesets: dict[int, Ruleset] = {}

    def file(self, family: int) -> str:
        return self.path + SUFFIXES[family]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes the files meanwhile.  Where the lock cannot be made (a read-only place) there are only readers."""
        self.rulesets.clear()
        try:
            fd = os.open(self.path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            yield
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def ruleset(self, family: int) -> Ruleset:
        """What the file holds; empty if there is none."""
        if family not in self.rulesets:
            self.rulesets[family] = self.read(family)
        return self.rulesets[family]

    def read(self, family: int) -> Ruleset:
        from nfqfw.rules import load
        try:
            with open(self.file(family), encoding="utf-8", errors="surrogateescape", newline="") as file:
                text = file.read()
        except FileNotFoundError:
            return Ruleset(family)
        return load(text, self.file(family), family) if text else Ruleset(family)

    def commit(self, *changed: Ruleset) -> None:
        """Write what has changed.  OSError: that family's file is as it was."""
        from nfqfw.rules import save
        for ruleset in changed:
            replace(self.file(ruleset.family), save(ruleset, counters=True))
            self.rulesets[ruleset.family] = ruleset

    def counts(self) -> dict[int, tuple[int, int]]:
        """Nothing counts on: every rule has what it carries."""
        return {}


def replace(path: str, text: str) -> None:
    """New content by rename; the mode of the old file stays."""
    target = os.path.realpath(path)                     # FILE may be a symbolic link: keep it
    new = f"{target}.new{os.getpid()}"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(fd, os.stat(target).st_mode & 0o7777)
            file.write(text)
        os.rename(new, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
