"""Offline: packets of a capture (or made by hand) through an engine, with the hooks a kernel would have shown them at.

Overview.  `OfflineQueue` plays the kernel: a packet comes in, is routed by the Host's facts, and crosses hook after hook as
long as the verdict is ACCEPT; marks and rewritten bytes travel with it.  `pump` is the live loop in Python: read, judge,
write.  No root, no netlink, no clock: a packet's time is its capture's.

    PREROUTING ─ route ─ local? ─ INPUT
                           └ else ─ ttl - 1 ─ FORWARD ─ POSTROUTING          OUTPUT ─ route ─ POSTROUTING

`hooks` are the hooks that are shown to the engine, as a live attach plan would queue them: the same set must have been given
to Engine.set_attached.  Where the kernel would drop or answer by itself (no route, TTL 1), the packet ends with that reason.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from nfqfw.queue._feed import Decision, Feed, Reply
from nfqfw.queue.capture import Captured

PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)
HOOK_NAMES = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
DROP, ACCEPT, HELD, QUEUE, REPEAT = range(5)
IPV4, IPV6 = 2, 10
START_NS = 1_000_000_000        # the engine's clock at the first packet: not 0, which could mean "never"
RTN_UNICAST, RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST = 1, 2, 3, 5

# why a packet ended that no verdict ended
DELIVERED, SENT, NO_ROUTE, TTL_EXCEEDED, BAD_PACKET = "delivered", "sent", "no route", "ttl exceeded", "bad packet"
MARTIAN = "martian"             # an address that cannot be there, or a source route
SOURCE_ROUTES = (131, 137)      # IPv4 options LSRR, SSRR
NO_OPERATION, END_OF_OPTIONS = 1, 0


@dataclass(slots=True)
class Travelling:
    """One packet on its way."""

    id: int
    number: int                 # frame of the capture, 0 = made by hand
    time: int                   # ns since the epoch
    data: bytes
    total: int
    hook: int
    ifin: int = 0
    ifout: int = 0
    mark: int = 0
    priority: int = 0
    hwaddr: bytes = b""
    local: bool = False         # came from this host


class Crossing(NamedTuple):
    """A packet at one hook, and what was decided there."""

    packet: Travelling
    hook: int
    decision: Decision


class Route(NamedTuple):
    kind: int                   # RTN_*
    ifindex: int


class Router:
    """Routing by a Host's facts: addresses, then the longest prefix.  Without a Host everything is forwarded.

    interfaces: how to take a packet without facts: (ifindex in, ifindex out).
    """

    def __init__(self, host=None, interfaces: tuple[int, int] = (0, 0)):
        self.interfaces = interfaces
        self.known = host is not None
        self._cache: dict[bytes, Route | None] = {}
        self._names: dict[str, int] = {}
        self._local: dict[bytes, int] = {}
        self._broadcast: set[bytes] = set()
        self._routes: list[tuple] = []
        if host is not None:
            self._take(host.facts)

    def _take(self, facts) -> None:
        self._names = {link.name: link.index for link in facts.interfaces}
        for item in facts.addresses:
            self._local[item.address.packed] = item.ifindex
            if item.family == IPV4 and item.prefix < 31:
                network = ip_network(f"{item.address}/{item.prefix}", strict=False)
                self._broadcast.add((item.broadcast or network.broadcast_address).packed)
        routes = [route for route in facts.routes if route.type == RTN_UNICAST]
        for route in sorted(routes, key=lambda r: (-r.prefix, r.metric)):
            bits = 8 * len(route.destination.packed)
            self._routes.append((bits, bits - route.prefix, int(route.destination) >> (bits - route.prefix), route.ifindex))

    def interface(self, name: str) -> int:
        """ifindex of a capture's interface; 0 = not known."""
        return self._names.get(name, 0)

    def is_local(self, address: bytes) -> bool:
        return address in self._local

    def route(self, address: bytes) -> Route | None:
        """Where a packet to this address goes; None = nowhere."""
        if not self.known:
            return Route(RTN_UNICAST, self.interfaces[1])
        if address not in self._cache:
            if len(self._cache) > 65536:
                self._cache.clear()
            self._cache[address] = self._look_up(address)
        return self._cache[address]

    def _look_up(self, address: bytes) -> Route | None:
        if address in self._local or len(address) == 4 and address[0] == 127:
            return Route(RTN_LOCAL, 1)
        if address in self._broadcast or address == b"\xff\xff\xff\xff":
            return Route(RTN_BROADCAST, 0)
        if len(address) == 4 and 224 <= address[0] < 240 or len(address) == 16 and address[0] == 0xFF:
            return Route(RTN_MULTICAST, 0)
        bits, value = 8 * len(address), int.from_bytes(address)
        for length, shift, prefix, ifindex in self._routes:
            if length == bits and value >> shift == prefix:
                return Route(RTN_UNICAST, ifindex)
        return None


class OfflineQueue:
    """Plays the kernel for one Feed; see the module.  hooks: which of them the engine is shown.

    on_crossing(Crossing) is called for every decision, on_end(packet, how) when a packet's way ends: DELIVERED, SENT, "drop",
    or why the kernel ended it.
    """

    def __init__(self, feed: Feed, router: Router | None = None, hooks: Iterable[str] = HOOK_NAMES,
                 on_crossing: Callable[[Crossing], object] = lambda crossing: None,
                 on_end: Callable[[Travelling, str], object] = lambda packet, how: None):
        self.feed = feed
        self.router = router or Router()
        self.hooks = frozenset(HOOK_NAMES.index(name) for name in hooks)
        self.ends: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()         # crossings, by verdict
        self.replies = 0                                # packets of the engine's own
        self._on_crossing = on_crossing
        self._on_end = on_end
        self._waiting: dict[int, Travelling] = {}       # at a hook without a verdict yet, by id
        self._next: deque[Travelling] = deque()         # at a hook, not yet shown
        self._id = 0
        self._first: int | None = None

    # ---- packets in ---------------------------------------------------------------------------------------------------

    def take(self, captured: Captured) -> None:
        """A captured packet arrives: at OUTPUT if its source is ours, else at PREROUTING."""
        packet = Travelling(self._new_id(), captured.number, captured.time, captured.data, captured.total, PREROUTING,
                            self.router.interface(captured.interface) or self.router.interfaces[0], hwaddr=captured.hwaddr)
        ends = addresses(packet.data)
        if ends is None:
            return self._arrive(packet)                 # the engine says bad_ip
        source, destination = ends
        if self.router.known and self.router.is_local(source):
            return self._send(packet, destination)
        elif self.router.known and not packet.ifin:
            back = self.router.route(source)            # no name in the capture: it came from where its source lives
            packet.ifin = back.ifindex if back else 0
        self._arrive(packet)

    def take_reply(self, reply: Reply, time: int) -> None:
        """A packet of the engine's own (REJECT) leaves this host: it crosses OUTPUT like any other."""
        self.replies += 1
        packet = Travelling(self._new_id(), 0, time, reply.data, len(reply.data), OUTPUT, ifout=reply.ifindex, mark=reply.mark)
        ends = addresses(reply.data)
        if ends is None:
            return self._end(packet, BAD_PACKET)
        self._send(packet, ends[1])

    def _send(self, packet: Travelling, destination: bytes) -> None:
        packet.hook, packet.ifin, packet.local = OUTPUT, 0, True
        route = self.router.route(destination)
        if route is None:
            return self._end(packet, NO_ROUTE)
        packet.ifout = packet.ifout or route.ifindex
        self._arrive(packet)

    def _new_id(self) -> int:
        self._id = self._id % 0xFFFFFFFF + 1
        return self._id

    def receive(self) -> Iterator[list[Travelling]]:
        """Batches of packets to judge, until no packet is on its way."""
        while self._next:
            batch = []
            while self._next and len(batch) < 64:
                batch.append(self._next.popleft())
            yield batch

    # ---- verdicts -----------------------------------------------------------------------------------------------------

    def judge(self, batch: list[Travelling]) -> list[Decision]:
        """The engine's decisions for a batch, at the time of its last packet."""
        for packet in batch:
            self._waiting[packet.id] = packet
            self.feed.add(packet.data, packet.hook, id=packet.id, total=packet.total, ifin=packet.ifin, ifout=packet.ifout,
                          mark=packet.mark, priority=packet.priority, hwaddr=packet.hwaddr)
        return self.feed.run(self.monotonic(batch[-1].time), batch[-1].time)

    def perform(self, decisions: list[Decision]) -> None:
        """Let verdicts take effect in order: each packet ends, waits on, or goes to its next hook."""
        for decision in decisions:
            packet = self._waiting[decision.id] if decision.verdict == HELD else self._waiting.pop(decision.id)
            self.verdicts[("drop", "accept", "held", "queue", "repeat")[decision.verdict]] += 1
            self._on_crossing(Crossing(replace(packet), packet.hook, decision))
            if decision.verdict == DROP:
                self._end(packet, "drop")
            elif decision.verdict != HELD:
                self._apply(packet, decision)
                self._leave(packet)

    def idle(self, time: int) -> None:
        """Every packet on its way has been seen: what the engine still expects will not come."""
        self.perform(self.feed.idle(self.monotonic(time)))

    def monotonic(self, time: int) -> int:
        """The engine's clock at a capture's time: START_NS at the first packet."""
        if self._first is None:
            self._first = time
        return START_NS + time - self._first

    def _apply(self, packet: Travelling, decision: Decision) -> None:
        if decision.mark is not None:
            packet.mark = decision.mark
        if decision.priority is not None:
            packet.priority = decision.priority
        if decision.data is not None:
            packet.data, packet.total = decision.data, len(decision.data)

    # ---- the kernel between the hooks ---------------------------------------------------------------------------------

    def _leave(self, packet: Travelling) -> None:
        """From the hook just passed to the next one, or out."""
        if packet.hook == PREROUTING:
            self._route_input(packet)
        elif packet.hook == INPUT:
            self._end(packet, DELIVERED)
        elif packet.hook == POSTROUTING:
            self._end(packet, SENT)
        else:
            if packet.hook == OUTPUT:                   # a changed address or mark routes anew
                ends = addresses(packet.data)
                route = self.router.route(ends[1]) if ends else None
                if route is None:
                    return self._end(packet, NO_ROUTE)
                packet.ifout = route.ifindex
            packet.hook = POSTROUTING
            packet.ifin = packet.ifin if not packet.local else 0
            self._arrive(packet)

    def _route_input(self, packet: Travelling) -> None:
        ends = addresses(packet.data)
        if ends is None:
            return self._end(packet, BAD_PACKET)
        if self.router.known and not packet.local and not routable(packet.data, self.router.is_local(ends[0])):
            return self._end(packet, MARTIAN)
        route = self.router.route(ends[1])
        if route is None:
            return self._end(packet, NO_ROUTE)
        if route.kind != RTN_UNICAST:
            packet.hook = INPUT
            return self._arrive(packet)
        packet.data = aged(packet.data)
        if not packet.data:
            return self._end(packet, TTL_EXCEEDED)
        packet.hook, packet.ifout = FORWARD, route.ifindex
        self._arrive(packet)

    def _arrive(self, packet: Travelling) -> None:
        if packet.hook in self.hooks:
            self._next.append(packet)
        else:
            self._leave(packet)

    def _end(self, packet: Travelling, how: str) -> None:
        self.ends[how] += 1
        self._on_end(packet, how)


def pump(queue: OfflineQueue, capture: Iterable[Captured]) -> None:
    """Everything of a capture through the queue, each packet to its end before the next: the live loop with a quiet wire."""
    time = 0
    for captured in capture:
        time = max(time, captured.time)                 # captures of several interfaces are not quite in order
        queue.take(captured._replace(time=time))
        for batch in queue.receive():                   # the only read
            queue.perform(queue.judge(batch))           # the only write
            for reply in queue.feed.replies():
                queue.take_reply(reply, time)
        queue.idle(time)


# ---- headers ----------------------------------------------------------------------------------------------------------

def addresses(data: bytes) -> tuple[bytes, bytes] | None:
    """(source, destination) in wire order; None if there is no whole IP header."""
    version = data[0] >> 4 if data else 0
    if version == 4 and len(data) >= 20:
        return data[12:16], data[16:20]
    if version == 6 and len(data) >= 40:
        return data[8:24], data[24:40]
    return None


def routable(data: bytes, own_source: bool) -> bool:
    """Whether Linux looks for a route of a packet that came from outside: no martian, no source route (what `sysctl` has by default).

    own_source: its source is an address of this host.  Seen on the kernel: tests/flows/hostile_ip_rcv4.flow.
    """
    if data[0] >> 4 != 4:
        return True
    source, target = data[12:16], data[16:20]
    if own_source or source[0] in (0, 127) or 224 <= source[0] < 240 or source == b"\xff\xff\xff\xff" or target[0] in (0, 127):
        return False
    return not source_routed(data[20:(data[0] & 15) * 4])


def source_routed(options: bytes) -> bool:
    """A loose or strict source route among IPv4 options (RFC 791)."""
    at = 0
    while at < len(options) and options[at] != END_OF_OPTIONS:
        if options[at] in SOURCE_ROUTES:
            return True
        size = 1 if options[at] == NO_OPERATION else options[at + 1] if at + 1 < len(options) else 0
        if not size or size == 1 and options[at] != NO_OPERATION:
            return False                                # malformed: refused for that, see hostile_cases.md
        at += size
    return False


def aged(data: bytes) -> bytes:
    """The packet after a router took 1 from TTL or hop limit, b"" if it may not go on.

    The IPv4 checksum is updated as the kernel does it (RFC 1141, 0xffff becomes 0).
    """
    at = 8 if data[0] >> 4 == 4 else 7
    if data[at] <= 1:
        return b""
    out = bytearray(data)
    out[at] -= 1
    if at == 8:
        total = int.from_bytes(data[10:12]) + 0x0100
        out[10:12] = ((total + (total >= 0xFFFF)) & 0xFFFF).to_bytes(2)
    return bytes(out)


def address_text(data: bytes) -> str:
    """"source > destination" of a packet, for reports."""
    ends = addresses(data)
    return " > ".join(str(ip_address(end)) for end in ends) if ends else "?"
