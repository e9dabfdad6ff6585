"""The `conntrack` applet and the nf_conntrack_* settings, on the flow table of the daemon.

The table does its own locking, so these commands do not wait for rule changes.  `-E` follows the table's events: one thread
drains its ring while there is a follower and hands each event to all of them; a follower that does not read loses events, and
is told how many at the end, as a slow reader of the kernel's would lose them.
"""

from __future__ import annotations

import queue
import select
import threading
import time

from nfqfw.conntrack import command
from nfqfw.daemon.deferred import Deferred, Needed, Terminal
from nfqfw.daemon.server import Session

DRAIN_SECONDS = 0.05            # how often events are taken from the ring while somebody follows
BATCH_EVENTS = 4_096
FOLLOWER_BATCHES = 256          # waiting for one follower before it loses some


class Flows:
    """Serves "conntrack" and "sysctl" on `table`, a ConntrackTable."""

    def __init__(self, table) -> None:
        self.table = table
        self.followers: list[queue.Queue] = []
        self.lock = threading.Lock()                    # of the followers
        self.ended = threading.Event()

    def stop(self) -> None:
        """Let followers go."""
        self.ended.set()

    def conntrack(self, argv: list[str], session: Session) -> int:
        result = run_conntrack(argv, self.table, session)
        return result.code if result.follow is None else self.follow(result.follow, session)

    # ---- events ---------------------------------------------------------------------------------------------------------

    def follow(self, request, session: Session) -> int:
        """Print events until the client goes or the daemon ends."""
        events: queue.Queue = queue.Queue(FOLLOWER_BATCHES)
        session.tell({"follow": True})
        self.join(events)
        try:
            while not self.ended.is_set() and not has_left(session):
                try:
                    batch = events.get(timeout=0.2)
                except queue.Empty:
                    continue
                now = time.time_ns()
                session.print(1, "".join(command.follow(request, entry, now) for entry in batch).encode())
        finally:
            self.leave(events)
        return 0

    def join(self, events: queue.Queue) -> None:
        with self.lock:
            self.followers.append(events)
            if len(self.followers) == 1:
                self.table.events(1 << 30)              # what nobody has asked for
                self.table.listen()
                threading.Thread(target=self.drain, name="events", daemon=True).start()

    def leave(self, events: queue.Queue) -> None:
        with self.lock:
            self.followers.remove(events)
            if not self.followers:
                self.table.deafen()

    def drain(self) -> None:
        while not self.ended.is_set():
            with self.lock:
                if not self.followers:
                    return
                batch = self.table.events(BATCH_EVENTS)
                for follower in self.followers if batch else ():
                    try:
                        follower.put_nowait(batch)
                    except queue.Full:
                        pass
            if len(batch) < BATCH_EVENTS:
                time.sleep(DRAIN_SECONDS)

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
    terminal.print(1, result.stdout.encode(errors="surrogateescape"))
    terminal.print(2, result.stderr.encode(errors="surrogateescape"))
    return result


def has_left(session: Session) -> bool:
    """True if the client has closed its end; it has nothing to say while it follows."""
    return bool(select.select([session.sock], [], [], 0)[0])
