"""Events for several listeners: the table's ring has one reader, `conntrack -E` may run many times.

Whoever asks drains the ring under a lock and hands every event to all listeners; a listener that does not ask loses what
exceeds its bound.  While nobody listens the table tells no events at all (nf_conntrack_events = 2).
"""

import threading
from collections import deque
from contextlib import contextmanager

from nfqfw.conntrack.entry import Entry
from nfqfw.limits import RING_RECORDS


class EventHub:
    """Fan-out of one table's events."""

    def __init__(self, table):
        self.table = table
        self.lock = threading.Lock()
        self.listeners: list[deque] = []

    @contextmanager
    def listen(self):
        """A function that returns the events since its last call, oldest first, while the block runs."""
        mine: deque = deque(maxlen=RING_RECORDS)
        with self.lock:
            if not self.listeners:
                self.table.listen()
            self.listeners.append(mine)
        try:
            yield lambda: self._take(mine)
        finally:
            with self.lock:
                self.listeners = [other for other in self.listeners if other is not mine]
                if not self.listeners:
                    self.table.deafen()

    def _take(self, mine: deque) -> list[Entry]:
        with self.lock:
            while events := self.table.events():
                for listener in self.listeners:
                    listener.extend(events)
            out = list(mine)
            mine.clear()
        return out
