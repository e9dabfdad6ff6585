"""One applet command: from its words to its output, wherever it runs (daemon, state file, no daemon)."""

from __future__ import annotations

import io
import socket

from nfqfw.daemon.deferred import Deferred, Terminal, run_deferred
from nfqfw.ext.names import Resolver
from nfqfw.rules.store import Store

FAMILY_OF_SIZE = {4: socket.AF_INET, 16: socket.AF_INET6}


class ClientResolver(Resolver):
    """Hosts as the client's resolver knows them; services and protocols by the files of this host."""

    def __init__(self, deferred: Deferred) -> None:
        self.deferred = deferred

    def addresses(self, host: str, family: int) -> list[bytes]:
        return [socket.inet_pton(family, address) for address in self.deferred.resolve(host, family)]

    def host(self, address: bytes) -> str | None:
        return self.deferred.name(socket.inet_ntop(FAMILY_OF_SIZE[len(address)], address))


class ClientFile(io.StringIO):
    """A file of the client's that is being written; it is replaced when it is closed."""

    def __init__(self, path: str, terminal: Terminal) -> None:
        super().__init__()
        self.path, self.terminal = path, terminal

    def __exit__(self, kind, *rest) -> None:
        if kind is None:
            self.terminal.write(self.path, encode(self.getvalue()))
        super().__exit__(kind, *rest)


def run_applet(tool: str, argv: list[str], store: Store, terminal: Terminal) -> int:
    """Run `tool` with these arguments on the store, print what it says at the client's; its exit code."""
    from nfqfw.rules import applet

    def command(store: Store, deferred: Deferred):
        def open_file(path: str, mode: str):
            return ClientFile(path, terminal) if mode == "w" else io.StringIO(decode(deferred.read(path)))

        return applet.run([tool, *argv], store, lambda: decode(deferred.read(None)), ClientResolver(deferred), open_file)

    result = run_deferred(command, store, terminal)
    terminal.print(1, encode(result.stdout))
    terminal.print(2, encode(result.stderr))
    return result.code


def decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
