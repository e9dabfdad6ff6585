"""The same packets through Linux and through us: class, state, status and time-out after each of them.

    with Twins() as twins:
        both = twins.send("client", packet)         # (kernel's Seen, our Seen)

The kernel's side is the oracle's router namespace (`nfqfw.selftest.kernel`) whose ruleset only asks for conntrack; ours is
a table in this process, fed with the same bytes.  A packet that the kernel would forward is confirmed on both sides.
"""

import errno
import socket
import struct
import time
from typing import NamedTuple

from nfqfw._conntrack import ConntrackTable
from nfqfw.selftest.kernel import CLASSED, KernelTwin
from nfqfw.selftest.netlink import CTNETLINK, attribute, attributes, connection, message

IPV4, IPV6 = 2, 10
RULES = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A FORWARD -m conntrack --ctstate NEW\nCOMMIT\n"
STATUS = 2 | 4                  # SEEN_REPLY, ASSURED: the bits a listing shows


class Seen(NamedTuple):
    """What one tracker says after a packet; an entry that is not there has state None."""

    ctstate: str
    state: str | None = None
    status: int = 0
    timeout: int = 0

    def agrees(self, other: "Seen") -> bool:
        """Equal, the time-outs up to a second that one of the two may have counted down already."""
        return self[:3] == other[:3] and abs(self.timeout - other.timeout) <= 1


class Key(NamedTuple):
    """Which connection a test looks at: its original tuple; a, b = ports, or id and type << 8 | code."""

    proto: int
    src: str
    dst: str
    a: int = 0
    b: int = 0


class Twins:
    """Both trackers.  `kernel_only` helps to find out what Linux does."""

    def __init__(self, **settings: int):
        self.settings = settings
        self.router = KernelTwin(classes=True)

    def __enter__(self) -> "Twins":
        self.router.__enter__()
        self._warm_up()
        with self.router.inside():
            for family in (IPV4, IPV6):
                self.router._restore(family, RULES)
        for name, value in self.settings.items():
            self.set(name, value)
        self.fresh()
        return self

    def _warm_up(self) -> None:
        """The links may need a moment before the router answers on them."""
        self.router.wire.settimeout(0.3)
        for _ in range(20):
            try:
                self.router._until_sentinel(IPV4)
                break
            except TimeoutError:
                continue
        self.router.wire.settimeout(5)

    def __exit__(self, *exc: object) -> None:
        self.router.__exit__(*exc)

    def fresh(self) -> None:
        """A new table of ours; the kernel's connections stay (use other addresses or ports)."""
        self.ours = ConntrackTable(100_000, 1 << 17)
        for name, value in self.settings.items():
            self.ours.set(name, value)

    def set(self, name: str, value: int) -> None:
        self.settings[name] = value
        with self.router.inside(), open("/proc/sys/net/netfilter/" + name, "w") as f:
            f.write(str(value))

    def kernel(self, point: str, data: bytes) -> str:
        """Inject; returns the class."""
        router = self.router
        family = IPV6 if data[0] >> 4 == 6 else IPV4
        kind = 0x0800 if family == IPV4 else 0x86DD
        router.wire.sendto(router.ether[point] + struct.pack(">H", kind) + data, (point, 0))
        router._until_sentinel(family)
        return next((prefix.decode() for group, _, prefix, _ in router.log.drain() if group == CLASSED), "")

    def kernel_entry(self, key: Key):
        """The kernel's connection with this original tuple, or None."""
        family = socket.AF_INET6 if ":" in key.src else socket.AF_INET
        first = 3 if family == socket.AF_INET6 else 1
        ip = attribute(first, socket.inet_pton(family, key.src)) + attribute(first + 1, socket.inet_pton(family, key.dst))
        proto = attribute(1, bytes([key.proto]))
        if key.proto in (1, 58):
            base = 4 if key.proto == 1 else 7
            proto += attribute(base, struct.pack(">H", key.a)) + attribute(base + 1, bytes([key.b >> 8])) + attribute(base + 2, bytes([key.b & 255]))
        elif key.proto in (6, 17, 47, 132, 136):
            proto += attribute(2, struct.pack(">H", key.a)) + attribute(3, struct.pack(">H", key.b))
        body = attribute(0x8001, attribute(0x8001, ip) + attribute(0x8002, proto))
        try:
            answers = list(self.router.ct._ask(message(CTNETLINK | 1, 4, family, 0, body)))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return None
        found = connection(attributes(answers[0][4:]))
        return found if found.original == key[1:] else None     # the kernel also answers for a reply tuple

    def our_entry(self, key: Key):
        for entry in self.ours.list(now_ns=time.monotonic_ns()):
            side = entry.original
            if (entry.proto, side.src, side.dst, side.sport, side.dport) == key:
                return entry
        return None

    def send(self, point: str, data: bytes, key: Key) -> tuple[Seen, Seen]:
        """One packet through both; what each says of the connection `key` afterwards."""
        theirs = Seen(self.kernel(point, data))
        ours = Seen(self.ours.process(data, time.monotonic_ns())[0])
        return self.look(key, theirs.ctstate, ours.ctstate)

    def look(self, key: Key, their_class: str, our_class: str) -> tuple[Seen, Seen]:
        """What each says of the connection now, beside the classes given."""
        theirs, ours = Seen(their_class), Seen(our_class)
        found, entry = self.kernel_entry(key), self.our_entry(key)
        if found is not None:
            theirs = Seen(theirs.ctstate, found.state, found.status & STATUS, found.timeout)
        if entry is not None:
            ours = Seen(ours.ctstate, entry.state_name or "", entry.status & STATUS, entry.timeout)
        return theirs, ours
