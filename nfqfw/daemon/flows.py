"""The `conntrack` and `nfct` applets and the nf_conntrack_* settings, on the flow table of the daemon.

The table does its own locking, so these commands do not wait for rule changes.  `-E` follows the table's events until its client
goes or the daemon ends.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Collection

from nfqfw.conntrack import command, nfct
from nfqfw.conntrack._policies import TimeoutPolicies
from nfqfw.conntrack.follow import EventHub
from nfqfw.daemon.deferred import Deferred, Needed, Terminal
from nfqfw.daemon.server import Session

EVENT_SECONDS = 0.05            # how often a follower looks for events, and whether its client is still there


class Flows:
    """Serves "conntrack", "nfct" and "sysctl" on `table`, a ConntrackTable."""

    def __init__(self, table) -> None:
        self.table = table
        self.policies = TimeoutPolicies(table)
        self.hub = EventHub(table)
        self.ended = threading.Event()

    def stop(self) -> None:
        """Let followers go."""
        self.ended.set()

    def conntrack(self, argv: list[str], session: Session) -> int:
        result = run_conntrack(argv, self.table, session)
        if result.follow is not None:
            self.follow(result.follow, session)
        return result.code

    def nfct(self, argv: list[str], in_use: Collection[str]) -> nfct.Result:
        """Run the nfct command; the caller keeps rules from changing meanwhile.  in_use: policies that rules name."""
        return nfct.run(argv, self.policies, in_use)

    def load_policies(self, path) -> None:
        """Run a file of nfct commands.  NfqfwError names what is wrong and where."""
        nfct.load_file(path, self.policies)

    def follow(self, request, session: Session) -> None:
        """Print events; the client knows from the first message that it may be silent for long."""
        with self.hub.listen() as take:
            session.tell({"follow": "expectation" if request.table == "expect" else "flow"})
            while not has_left(session):
                text = "".join(command.follow(request, entry, time.time_ns()) for entry in take())
                session.print(1, text.encode())
                if self.ended.wait(EVENT_SECONDS):
                    return

    # ---- settings -------------------------------------------------------------------------------------------------------

    def settings(self, changes: dict[str, int]) -> dict[str, int]:
        """Change these settings, all or none; returns every setting.  ValueError: unknown, read-only or out of range."""
        before = {name: self.table.get(name) for name in changes}
        try:
            for name, value in changes.items():
                self.table.set(name, value)
        except ValueError:
            for name, value in before.items():
                if self.table.get(name) != value:
                    self.table.set(name, value)
            raise
        return self.table.tunables()


def run_conntrack(argv: list[str], table, terminal: Terminal) -> command.Result:
    """Run the tool on a table and print what it says at the client's; the Result, whose `follow` is for the caller."""
    deferred = Deferred()
    while True:
        try:
            result = command.run(argv, table, read=lambda path: deferred.read(None if path == "-" else path).decode("utf-8", "replace"))
            break
        except Needed as needed:                        # -R reads its file before it changes anything
            key = needed.key
        deferred.fetch(key, terminal)
    show(result, terminal)
    return result


def show(result, terminal: Terminal) -> int:
    """Print a Result at the client's; its exit code."""
    terminal.print(1, result.stdout.encode(errors="surrogateescape"))
    terminal.print(2, result.stderr.encode(errors="surrogateescape"))
    return result.code


def has_left(session: Session) -> bool:
    """True if the client has closed its end; it has nothing to say while it follows."""
    return bool(select.select([session.sock], [], [], 0)[0])
