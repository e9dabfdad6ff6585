"""One applet command: from its words to its output, wherever it runs (daemon, state file, no daemon)."""

from __future__ import annotations

from collections.abc import Mapping

from nfqfw.daemon.deferred import Deferred, Terminal
from nfqfw.rules.store import Store


def run(tool: str, argv: list[str], store: Store, io: Deferred, environment: Mapping[str, str]):
    """Result (stdout, stderr, code, files) of `tool` with these arguments on the store.  Reads and resolves through `io`."""
    from nfqfw.rules import applet
    return applet.run([tool, *argv], store, io)


def deliver(result, terminal: Terminal) -> int:
    """Print what the command said, at the client's; its exit code."""
    terminal.print(1, result.stdout.encode(errors="surrogateescape"))
    terminal.print(2, result.stderr.encode(errors="surrogateescape"))
    return result.code
