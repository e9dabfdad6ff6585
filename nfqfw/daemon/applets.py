"""One applet command: from its words to its output, wherever it runs (daemon, state file, no daemon)."""

from __future__ import annotations

import io
import select
import socket
import time

from nfqfw.daemon.deferred import Deferred, Terminal, run_deferred
from nfqfw.ext.names import Resolver
from nfqfw.rules.store import Store

EVENT_SECONDS = 0.05            # how often events are taken from the ring for conntrack -E
SILENCE_SECONDS = 1.0           # and how long a client that listens hears nothing at most
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

    if tool == "conntrack":
        return run_conntrack(argv, getattr(store, "events", None), terminal)

    def command(store: Store, deferred: Deferred):
        def open_file(path: str, mode: str):
            return ClientFile(path, terminal) if mode == "w" else io.StringIO(decode(deferred.read(path)))

        return applet.run([tool, *argv], store, lambda: decode(deferred.read(None)), ClientResolver(deferred), open_file)

    result = run_deferred(command, store, terminal)
    terminal.print(1, encode(result.stdout))
    terminal.print(2, encode(result.stderr))
    return result.code


def run_conntrack(argv: list[str], hub, terminal: Terminal) -> int:
    """The conntrack command on the table behind `hub` (an EventHub; None: no daemon, nothing is tracked); its exit code."""
    from nfqfw.conntrack import command

    if hub is None:
        from nfqfw._conntrack import ConntrackTable

        if any(word in ("-I", "-A", "-R", "--create", "--add") for word in argv):
            terminal.print(2, b"conntrack: nothing is tracked in this network namespace: load rules that need it first\n")
            return 1
        result = command.run(argv, ConntrackTable(16, 64))
    else:
        result = command.run(argv, hub.table, read=lambda path: decode(terminal.read(path)))
    terminal.print(1, encode(result.stdout))
    terminal.print(2, encode(result.stderr))
    if result.follow is not None and hub is not None:
        follow_events(result.follow, hub, terminal)
    return result.code


def follow_events(request, hub, terminal: Terminal) -> None:
    """Print events until the client leaves."""
    from nfqfw.conntrack import command

    sock = getattr(terminal, "sock", None)
    silent = 0.0
    with hub.listen() as take:
        while not has_left(sock):
            text = "".join(command.follow(request, entry, time.time_ns()) for entry in take())
            terminal.print(1, encode(text))
            silent = 0.0 if text else silent + EVENT_SECONDS
            if silent > SILENCE_SECONDS and sock is not None:
                terminal.tell({"print": 1})         # the client gives up on a daemon that says nothing
                silent = 0.0
            time.sleep(EVENT_SECONDS)


def has_left(sock: socket.socket | None) -> bool:
    """True if the client closed its end; it says nothing while it listens."""
    return sock is not None and bool(select.select([sock], [], [], 0)[0])


def decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
