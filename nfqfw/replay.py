"""Replay: a capture through the engine of a live firewall, without root and without traffic.

Overview.  A capture says what arrived and when, not which way the kernel sent it.  A Host (a snapshot, or nothing) decides
that: a packet from an address of the host was sent by it (OUTPUT, POSTROUTING), one to such an address was for it
(PREROUTING, INPUT), every other was forwarded (PREROUTING, FORWARD, POSTROUTING), by the interfaces of its routes.  Each
crossing is one call of the engine, as live; replies of REJECT cross OUTPUT and POSTROUTING, as live.  The capture's times
are the clock, so limits and time-outs act as they would have.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from nfqfw.host import Host
from nfqfw.report.packet import Summary, summarise

PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)
ACCEPT = 1
VERDICTS = {0: "DROP", 1: "ACCEPT", 2: "HELD", 3: "QUEUE", 4: "REPEAT"}
START_NS = 1_000_000_000            # the engine's monotonic clock at the first packet of the capture
RTN_LOCAL, RTN_BROADCAST, RTN_UNICAST = 2, 3, 1
LOCAL_NETWORKS = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
EVERYONE = (ip_network("224.0.0.0/4"), ip_network("255.255.255.255/32"), ip_network("ff00::/8"))


@dataclass(slots=True)
class Crossing:
    """What an engine is asked: one packet at one hook (the attributes that Engine.one reads)."""
    data: bytes
    family: int
    hook: int
    ifin: int = 0
    ifout: int = 0
    total: int = 0
    mark: int = 0
    priority: int = 0
    skbinfo: int = 0
    physin: int = 0
    physout: int = 0
    hwaddr: bytes = b""
    uid: int | None = None
    gid: int | None = None


@dataclass(slots=True)
class Judged:
    """A packet of the capture (number from 1) and its fate; records are the engine's, for trace and LOG."""
    number: int
    wall_ns: int
    summary: Summary
    verdict: str
    reason: int
    hook: int
    records: list[bytes] = field(default_factory=list)
    replies: list[Summary] = field(default_factory=list)


class Paths:
    """Which hooks a packet crosses on this host, and by which interfaces."""

    def __init__(self, host: Host | None, ifin: str = "", ifout: str = "") -> None:
        facts = host.facts if host is not None else None
        self.local = {a.address for a in facts.addresses} if facts else set()
        self.broadcast = {a.broadcast for a in facts.addresses if a.broadcast} if facts else set()
        self.routes: dict[int, list] = {2: [], 10: []}
        for route in facts.routes if facts else ():
            if route.type == RTN_UNICAST:
                self.routes[route.family].append((ip_network((route.destination, route.prefix)), route.ifindex))
        for routes in self.routes.values():
            routes.sort(key=lambda route: -route[0].prefixlen)
        self.ifin, self.ifout = ((host.index(name) if host is not None and name else 0) or 0 for name in (ifin, ifout))

    def interface(self, family: int, address) -> int:
        """Where a packet to this address leaves; 0 = no route."""
        return next((index for network, index in self.routes[family] if address in network), 0)

    def of(self, family: int, source: str, destination: str) -> list[tuple[int, int, int]]:
        """(hook, ifin, ifout) of each crossing, in order."""
        try:
            src, dst = ip_address(source), ip_address(destination)
        except ValueError:
            return [(PREROUTING, self.ifin, 0)]         # no addresses: no IP header that could be read
        out = self.ifout or self.interface(family, dst)
        if src in self.local and not any(src in net for net in LOCAL_NETWORKS):
            return [(OUTPUT, 0, out), (POSTROUTING, 0, out)]
        came = self.ifin or self.interface(family, src)
        if dst in self.local or dst in self.broadcast or any(dst in net for net in EVERYONE + LOCAL_NETWORKS):
            return [(PREROUTING, came, 0), (INPUT, came, 0)]
        return [(PREROUTING, came, 0), (FORWARD, came, out), (POSTROUTING, came, out)]


def family_of(data: bytes) -> int:
    return 10 if data[:1] and data[0] >> 4 == 6 else 2


def replay(engine, packets: Iterable[tuple[int, bytes, int]], paths: Paths, on_record: Callable[[bytes], None] = lambda record: None) -> Iterator[Judged]:
    """Judge a capture.  packets: (wall clock ns, bytes from the IP header on, length on the wire), in the capture's order.

    engine: a loaded Engine.  on_record is called with every log and trace record, as soon as it is there.
    """
    first = None
    for number, (wall, data, total) in enumerate(packets, 1):
        first = wall if first is None else first
        now = START_NS + max(0, wall - first)
        summary = summarise(data)
        verdict, reason, hook, _ = cross(engine, data, total, paths, summary, now, wall)
        replies = []
        for _, reply, _ in engine.take_replies():
            replies.append(summarise(reply))
            cross(engine, reply, len(reply), paths, replies[-1], now, wall, own=True)
        engine.take_replies()
        if verdict != ACCEPT:
            engine.idle(now)
        records = engine.take_records()
        for record in records:
            on_record(record)
        yield Judged(number, wall, summary, VERDICTS.get(verdict, str(verdict)), reason, hook, records, replies)


def cross(engine, data: bytes, total: int, paths: Paths, summary: Summary, now: int, wall: int, own: bool = False) -> tuple[int, int, int, bytes]:
    """Take one packet over all its hooks; (verdict, reason, last hook, bytes as they left)."""
    family, mark, priority = family_of(data), 0, 0
    way = paths.of(family, summary.source, summary.destination)
    if own:
        out = way[-1][2] or way[0][2]
        way = [(OUTPUT, 0, out), (POSTROUTING, 0, out)]
    verdict = reason = 0
    hook = way[0][0]
    for hook, ifin, ifout in way:
        crossing = Crossing(data, family, hook, ifin, ifout, total, mark, priority)
        verdict, reason, mark, priority, changed, *_ = engine.one(crossing, now, wall)
        data = changed or data
        if verdict != ACCEPT:
            break
    return verdict, reason, hook, data


def count(judged: Iterable[Judged]) -> Counter:
    return Counter(j.verdict for j in judged)
