"""Where the rulesets are that a command works on: the protocol between the applet and a daemon or a state file.

Overview.  `rules.applet.run` reads rulesets from a Store, makes new ones, and commits them.  It never changes one in place
(model.py).  A store serialises writers: everything from `ruleset()` to `commit()` of one command happens inside one
`with store.transaction():`.

Counters.  What is shared between the old and the new ruleset (a Rule, a PolicyCount: same object) goes on counting; a new
object starts with the count it carries.  `counted` gives rulesets whose rules carry the present counts as new objects: it is
for printing only and must not be committed.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from nfqfw.errors import NfqfwError, RuleErrors
from nfqfw.files import replace_file
from nfqfw.rules.model import Ruleset


class Store(Protocol):
    policies: Mapping | None        # time-out policies that CT rules may name (conntrack/timeouts.py), None = not known here

    def transaction(self, write: bool) -> AbstractContextManager[None]:
        """Keep others from committing (write) until the block ends; a reader sees one state throughout."""

    def ruleset(self, family: int) -> Ruleset:
        """The ruleset in force.  Counts in it are those it was loaded with, not the present ones."""

    def counted(self, family: int) -> Ruleset:
        """The same with the present counts, for -L -v, -S -v and save."""

    def commit(self, changed: dict[int, Ruleset], counted: bool = False) -> dict[int, Ruleset]:
        """Put rulesets (by family) in force, all at once.  The applet has made the kernel's checks (rules.validate).

        Raises RuleErrors or NfqfwError if this store cannot take them (a rule that a live engine cannot evaluate); nothing is
        changed then.  With `counted` returns the replaced rulesets with the counts they ended with: what `-L -Z` prints.
        """


class MemoryStore:
    """A store without packets: for tests, and the heart of the state file."""

    policies: Mapping | None = None

    def __init__(self, rulesets: dict[int, Ruleset] | None = None):
        self.rulesets = {2: Ruleset(2), 10: Ruleset(10), **(rulesets or {})}

    @contextmanager
    def transaction(self, write: bool):
        yield

    def ruleset(self, family: int) -> Ruleset:
        return self.rulesets[family]

    counted = ruleset

    def commit(self, changed: dict[int, Ruleset], counted: bool = False) -> dict[int, Ruleset]:
        old = dict(self.rulesets)
        self.rulesets.update(changed)
        return old


class FileStore(MemoryStore):
    """`NFQFW_STATE=FILE`: iptables-save text in FILE (IPv4) and FILE.v6, replaced by rename under a lock (FILE.lock)."""

    def __init__(self, path: str):
        super().__init__()
        self.paths = {2: path, 10: path + ".v6"}
        self.loaded: set[int] = set()

    @contextmanager
    def transaction(self, write: bool):
        try:
            lock = os.open(self.paths[2] + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if not write and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                self.loaded.clear()
                yield                               # a place we may only read: files are replaced whole, so any moment is good
                return
            raise NfqfwError(f"{self.paths[2]}.lock: {error.strerror}", "check the directory that NFQFW_STATE names") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if write else fcntl.LOCK_SH)
            self.loaded.clear()
            yield
        finally:
            os.close(lock)

    def ruleset(self, family: int) -> Ruleset:
        if family not in self.loaded:
            self.rulesets[family] = self.read(family)
            self.loaded.add(family)
        return self.rulesets[family]

    counted = ruleset

    def read(self, family: int) -> Ruleset:
        from nfqfw.rules.restore import load
        try:
            with open(self.paths[family], encoding="utf-8", errors="surrogateescape", newline="\n") as file:
                text = file.read()
        except FileNotFoundError:
            return Ruleset(family)
        except OSError as error:
            raise NfqfwError(f"{self.paths[family]}: {error.strerror}") from None
        try:
            return load(text, self.paths[family], family)
        except RuleErrors as errors:                    # mistakes of the file, not of the command at hand
            raise NfqfwError(str(errors)) from None

    def commit(self, changed: dict[int, Ruleset], counted: bool = False) -> dict[int, Ruleset]:
        old = {family: self.ruleset(family) for family in changed}
        for family, ruleset in changed.items():
            self.write(family, ruleset)
        return old

    def write(self, family: int, ruleset: Ruleset) -> None:
        from nfqfw.rules.saving import save
        replace_file(self.paths[family], save(ruleset, counters=True))
        self.rulesets[family] = ruleset
