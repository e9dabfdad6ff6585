"""Run a command inside its transaction without ever waiting for its client there.

A command reads, changes and commits inside one transaction of its store, which makes it atomic and keeps all others waiting.
Whatever it needs from the client (a file, standard input, a host name) may take for ever, so it must not be fetched there: the
first time something is asked for, the run is given up, nothing having been committed; the answer is fetched outside, kept, and
the command runs again.  Names of addresses, which only a listing needs, are collected to the end of a run and fetched together.

A run that has committed may still need names for what it prints (-L -Z).  It is run again on what the store answered the first
time, without the store: it takes effect once, and prints what it saw then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

from nfqfw.rules.model import Ruleset
from nfqfw.rules.store import Store

Result = TypeVar("Result")


class Terminal(Protocol):
    """What `nfqfw.daemon.terminal.Terminal` and `nfqfw.daemon.server.Session` have in common."""

    def read(self, path: str | None) -> bytes: ...
    def write(self, path: str, data: bytes) -> None: ...
    def resolve(self, name: str, family: int) -> list[str]: ...
    def names(self, addresses: list[str]) -> list[str | None]: ...
    def print(self, stream: int, data: bytes) -> None: ...


class Needed(BaseException):
    """The run stops here until the client has answered.  Not an Exception: no handler of the command may swallow it."""

    def __init__(self, key: tuple):
        super().__init__(key)
        self.key = key


class Deferred:
    """What a command asks of its client, answered from what is already here."""

    def __init__(self) -> None:
        self.answers: dict[tuple, object] = {}
        self.known: dict[str, str | None] = {}          # address -> host name
        self.unknown: dict[str, None] = {}              # addresses a listing has asked for, in its order

    def answer(self, *key):
        if key not in self.answers:
            raise Needed(key)
        found = self.answers[key]
        if isinstance(found, OSError):
            raise found
        return found

    def read(self, path: str | None) -> bytes:
        return self.answer("read", path)

    def resolve(self, name: str, family: int) -> list[str]:
        return self.answer("resolve", name, family)

    def name(self, address: str) -> str | None:
        """Host name of an address; None where there is none, or it has yet to be fetched."""
        if address not in self.known:
            self.unknown[address] = None
        return self.known.get(address)

    def fetch(self, key: tuple, terminal: Terminal) -> None:
        """Ask the client for what was needed; its error is kept as the answer."""
        try:
            self.answers[key] = getattr(terminal, key[0])(*key[1:])
        except OSError as error:
            self.answers[key] = error

    def fetch_names(self, terminal: Terminal) -> None:
        addresses = list(self.unknown)
        self.known.update(dict.fromkeys(addresses), **dict(zip(addresses, terminal.names(addresses), strict=False)))
        self.unknown.clear()


class Recorder:
    """A Store whose answers are kept from one run of a command to the next, once it has committed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.kept: list = []
        self.at = 0
        self.committed = False

    def rewind(self) -> None:
        """Before each run."""
        self.at = 0
        if not self.committed:
            self.kept.clear()

    def recorded(self, operation: Callable, *arguments):
        if self.at == len(self.kept):
            self.kept.append(operation(*arguments))
        self.at += 1
        return self.kept[self.at - 1]

    def transaction(self, write: bool) -> AbstractContextManager[None]:
        return nullcontext() if self.committed else self.store.transaction(write)

    @property
    def policies(self) -> Mapping | None:
        """What was committed has been checked: by a second run others may have changed them."""
        return None if self.committed else self.store.policies

    def ruleset(self, family: int) -> Ruleset:
        return self.recorded(self.store.ruleset, family)

    def counted(self, family: int) -> Ruleset:
        return self.recorded(self.store.counted, family)

    def commit(self, changed: Mapping[int, Ruleset], counted: bool = False) -> dict[int, Ruleset]:
        old = self.recorded(self.store.commit, changed, counted)
        self.committed = True
        return old


def run_deferred(command: Callable[[Store, Deferred], Result], store: Store, terminal: Terminal) -> Result:
    """Result of `command`, run as often as it takes to have all answers; it commits at most once."""
    deferred, recorder = Deferred(), Recorder(store)
    while True:
        recorder.rewind()
        try:
            result = command(recorder, deferred)
        except Needed as needed:
            deferred.fetch(needed.key, terminal)
            continue
        if not deferred.unknown:
            return result
        deferred.fetch_names(terminal)
