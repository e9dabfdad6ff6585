"""Run a command inside its transaction without ever waiting for its client there.

A command reads, changes and commits inside one transaction of its store, which makes it atomic and keeps all others waiting.
Whatever it needs from the client (a file, standard input, a host name) may take for ever, so it must not be fetched there: the
first time something is asked for, the run is given up, nothing having been committed; the answer is fetched outside, kept, and
the command runs again.  A command never asks after it has committed, so it takes effect once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

Result = TypeVar("Result")


class Terminal(Protocol):
    """What `nfqfw.daemon.terminal.Terminal` and `nfqfw.daemon.server.Session` have in common."""

    def read(self, path: str | None) -> bytes: ...
    def write(self, path: str, data: bytes) -> None: ...
    def resolve(self, name: str, family: int) -> list[str]: ...
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

    def fetch(self, key: tuple, terminal: Terminal) -> None:
        """Ask the client for what was needed; its error is kept as the answer."""
        try:
            self.answers[key] = getattr(terminal, key[0])(*key[1:])
        except OSError as error:
            self.answers[key] = error


def run_deferred(command: Callable[[Deferred], Result], terminal: Terminal) -> Result:
    """Result of `command`, run as often as it takes to have all answers."""
    deferred = Deferred()
    while True:
        try:
            return command(deferred)
        except Needed as needed:
            key = needed.key
        deferred.fetch(key, terminal)
