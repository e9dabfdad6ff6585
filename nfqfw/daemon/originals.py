"""Original destinations in the kernel's table: what the transport made there for redirected connections is removed with them.

queue/_ctnetlink.pxd makes an entry before the connection's first verdict; a record of it comes here.  Every few seconds the
entries whose connection has ended are deleted; at the end all of them.  After a kill they stay until their time-out (the
kernel's for established connections), and hurt nobody: the same ends would only be told an older destination, and a new
connection between them replaces it.
"""

from __future__ import annotations

import struct
import threading
import time

from nfqfw._nat import alive
from nfqfw._netlink import NetlinkError, NetlinkSocket, attribute, nested
from nfqfw._nfnetlink import NETLINK_NETFILTER

RECORD_REDIRECTED = 4                       # RecordKind of _trace.pxd
RECORD = struct.Struct("<BBBxIII16s16s16s16sHHHH8x")        # struct Redirected of _outbox.pxd
CT_DELETE = 1 << 8 | 2                      # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
CTA_TUPLE_ORIG, CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 1, 2
NLM_F_ACK = 4
SWEEP_SECONDS = 5


class Originals:
    """The entries that are in the kernel's table because of us."""

    def __init__(self) -> None:
        self.made: dict[tuple[int, int], bytes] = {}        # (number, life) of our entry -> body of the message that deletes it
        self.lock = threading.Lock()
        self.next_sweep = 0.0

    def add(self, record: bytes) -> None:
        _, family, proto, number, life, _, source, _, destination, _, sport, _, dport, _ = RECORD.unpack(record)
        size, first = (4, 1) if family == 2 else (16, 3)
        ends = attribute(first, source[:size]) + attribute(first + 1, destination[:size])
        ports = attribute(1, bytes((proto,))) + attribute(2, struct.pack(">H", sport)) + attribute(3, struct.pack(">H", dport))
        body = struct.pack(">BBH", family, 0, 0) + nested(CTA_TUPLE_ORIG, nested(CTA_TUPLE_IP, ends), nested(CTA_TUPLE_PROTO, ports))
        with self.lock:
            self.made[number, life] = body

    def sweep(self, table) -> None:
        """Delete what belongs to connections that have ended; looks at most every SWEEP_SECONDS."""
        if not self.made or time.monotonic() < self.next_sweep:
            return
        self.next_sweep = time.monotonic() + SWEEP_SECONDS
        now = time.monotonic_ns()
        with self.lock:
            ended = {key: body for key, body in self.made.items() if not alive(table, *key, now)}
            for key in ended:
                del self.made[key]
        delete(ended.values())

    def clear(self) -> None:
        with self.lock:
            bodies, self.made = list(self.made.values()), {}
        delete(bodies)


def delete(bodies) -> None:
    """Remove entries from the kernel's table; those that went by themselves are no error."""
    bodies = list(bodies)
    if not bodies:
        return
    with NetlinkSocket(NETLINK_NETFILTER) as kernel:
        for body in bodies:
            try:
                kernel.batch([(CT_DELETE, NLM_F_ACK, body)])
            except NetlinkError:
                pass
