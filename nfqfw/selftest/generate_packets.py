"""Random packet sequences: conversations that go on, their replies and errors, fragments, and what nobody should send.

A case runs within a fraction of a second: nothing here waits (time-outs are the flows' business), but for pauses where a rule
has a rate at which they count.  A draw prefers what is near: the ports the rules test, the sequence numbers the connection is
at, the packets already sent.
"""

from __future__ import annotations

import random
import struct
from dataclasses import replace

from nfqfw.selftest.case import Step
from nfqfw.selftest.packets import IPV4, Packet, layer4

ENDS = (                            # source, destination, odds
    ("C", "S", 10), ("S", "C", 4), ("C", "R1", 3), ("S", "R2", 2), ("R1", "C", 2), ("R2", "S", 2),
)


PAUSE, PAUSES = 0.25, (1, 2)         # seconds, and how many: together less than judge.LONGEST
SPI_PROTOCOLS = ("50", "51", "108")      # ESP, AH, IPComp
PORTED = ("tcp", "udp", "udplite", "sctp", "33")


def point_of(source: str) -> str:
    return {"C": "client", "S": "server", "N": "server", "R": "local"}[source[0]]


class Talk:
    """The packets of one case."""

    def __init__(self, rng: random.Random, family: int, seed: int, pool) -> None:
        self.rng, self.family, self.pool = rng, family, pool
        self.ident = (seed * 64) % 65000 + 1          # fragments of neighbouring cases must not meet
        self.sent: list[Packet] = []
        self.talks: list[TcpTalk | SctpTalk | PlainTalk] = []

    def steps(self) -> list[Step]:
        steps: list[Step] = []
        for _ in range(self.rng.choice((4, 6, 8, 12, 16))):
            steps += [Step(0, point_of(p.src if p.proto != "frag" else p.inner.src), p) for p in self.some()]
        for step in self.rng.sample(steps, self.rng.choice(PAUSES)) if self.pool.waits else ():
            step.delay = PAUSE
        return steps

    def some(self) -> list[Packet]:
        """The next packet, or the fragments of the next datagram."""
        rng = self.rng
        roll = rng.random()
        if self.sent and roll < 0.12:
            packet = self.error()
        elif roll < 0.15:
            packet = self.stray()
        elif self.talks and roll < 0.75:
            packet = rng.choice(self.talks[-3:]).next()
        else:
            self.talks.append(self.new_talk())
            packet = self.talks[-1].next()
        packet = self.dressed(packet)
        self.sent.append(packet)
        if rng.random() < 0.07 and packet.src[0] != "R" and packet.cut < 0 and "a" not in packet.ext:
            return self.fragments(packet)
        return [packet]

    def new_talk(self) -> TcpTalk | SctpTalk | PlainTalk:
        rng = self.rng
        source, target, _ = rng.choices(ENDS, [e[2] for e in ENDS])[0]
        base = Packet(proto=self.protocol(), src=self.host(source), dst=self.host(target))
        if base.proto in PORTED:
            base.sport, base.dport = rng.choice(self.pool.ports), rng.choice(self.pool.ports)
        if base.proto == "tcp":
            return TcpTalk(rng, base)
        return SctpTalk(rng, base) if base.proto == "sctp" else PlainTalk(rng, base, self.family)

    def protocol(self) -> str:
        """A protocol that rules ask for, or any."""
        rng = self.rng
        if self.pool.protocols and rng.random() < 0.3:
            proto = rng.choice(self.pool.protocols)
        else:
            proto = rng.choices(("tcp", "udp", "icmp", "udplite", "sctp", "89", "gre", *SPI_PROTOCOLS), (20, 12, 8, 2, 2, 1, 1, 1, 1, 1))[0]
        return "50" if proto == "51" and self.family != IPV4 else proto         # AH is an extension header there

    def host(self, side: str) -> str:
        if side[0] == "R":
            return side
        return self.rng.choice(self.pool.clients) if side == "C" else f"{side}{self.rng.randrange(3)}"

    def dressed(self, p: Packet) -> Packet:
        """IP header fields, and now and then damage."""
        rng = self.rng
        p.ttl = rng.choice(self.pool.ttls) if rng.random() < 0.5 else 64
        if rng.random() < 0.2:
            p.tos = rng.choice(self.pool.tos)
        self.ident = self.ident % 65000 + 1
        p.id = self.ident
        p.df = self.family == IPV4 and rng.random() < 0.3
        roll = rng.random()
        if roll < 0.02:
            p.sum = -2
        elif roll < 0.035:
            p.cut = rng.choice((0, 2, 4, 7, 8, 12, 19))
        elif roll < 0.085 and p.proto == "tcp":
            p.doff = rng.choice((0, 4, 15))
        elif roll < 0.05 and p.proto == "udp":
            p.l4len = rng.choice((0, 7, 8, 9, 2000))
        elif roll < 0.06 and p.proto == "udp":
            p.sum = 0
        if self.family != IPV4 and rng.random() < (0.03 if len(self.pool.extensions) == 4 else 0.3):
            p.ext = rng.choice(self.pool.extensions)
        return p

    def stray(self) -> Packet:
        """A packet that belongs to nothing: wrong ends, odd protocols, odd ICMP."""
        rng = self.rng
        packet = self.new_talk().next()
        if packet.proto == "icmp":
            packet.name, packet.kind, packet.code = "", rng.choice((0, 3, 5, 9, 13, 14, 17, 129, 130, 139, 200)), rng.choice((0, 0, 1))
            if packet.src[0] == "R" and packet.kind in (3, 130, 139):
                packet.kind = 200                   # the kernel's twin lets its router send no MLD and no reassembly time-outs
        elif packet.proto == "tcp":
            packet.flags = rng.choice(("", "F", "SF", "SR", "S.U", "P", "U", "S.", "R", "F.", ".", "FPU"))
        return packet

    def error(self) -> Packet:
        """An ICMP error about a packet sent before, right or a little wrong."""
        rng = self.rng
        about = rng.choice(self.sent[-6:])
        name = rng.choice(("unreachable", "port-unreachable", "time-exceeded", "too-big", "parameter-problem"))
        out = Packet(proto="icmp", name=name, inner=replace(about), src=rng.choice((about.dst, about.dst, "N", "S1")), dst=about.src)
        if about.dst[0] == "C":
            out.src = rng.choice((about.dst, "C2"))
        if rng.random() < 0.15:
            out.dst = rng.choice(("C1", "C0"))
        if rng.random() < 0.3:
            out.size = rng.choice((1, 4, 7, 8, 12, 20))
        return _only_between_networks(out)

    def fragments(self, p: Packet) -> list[Packet]:
        """The packet in pieces: in order, reversed, shuffled, one missing, doubled or overlapping."""
        rng = self.rng
        if p.payload is None and p.proto in ("udp", "icmp", "89") and p.inner is None:
            p.length += rng.choice((16, 40, 100))
        total = len(layer4(p, self.family))
        if total < 16:
            return [p]
        step = 8 * rng.randint(1, max(1, total // 16))
        cuts = list(range(0, total, step))[:6]
        ends = [*cuts[1:], total]
        out = [Packet(proto="frag", inner=p, offset=a, size=b - a, more=b < total, id=p.id) for a, b in zip(cuts, ends, strict=True)]
        roll = rng.random()
        if roll < 0.25:
            out.reverse()
        elif roll < 0.4:
            rng.shuffle(out)
        elif roll < 0.5 and len(out) > 1:
            out.pop(rng.randrange(len(out)))
        elif roll < 0.6:
            out.insert(rng.randrange(len(out) + 1), replace(rng.choice(out)))
        elif roll < 0.75:
            victim = rng.choice(out)
            out.insert(rng.randrange(len(out)), replace(victim, offset=max(0, victim.offset - 8), size=victim.size + 8))
        return out


def _only_between_networks(p: Packet) -> Packet:
    """Keep an error on a path of the lab: never from a side to itself."""
    sides = {"C": "C", "S": "S", "N": "S", "R": "R"}
    if sides[p.src[0]] == sides[p.dst[0]]:
        p.src = "N" if p.dst[0] == "C" else "C2"
    return p


class PlainTalk:
    """UDP, UDP-Lite, ICMP echo, GRE, other protocols: questions and answers."""

    def __init__(self, rng: random.Random, base: Packet, family: int) -> None:
        self.rng, self.base, self.family = rng, base, family
        self.ident, self.count = rng.randrange(1, 4), 0

    def next(self) -> Packet:
        rng, base = self.rng, self.base
        reply = self.count > 0 and rng.random() < 0.45
        self.count += 1
        p = replace(base, length=rng.choice((0, 1, 8, 20, 64)))
        if reply:
            p.src, p.dst, p.sport, p.dport = base.dst, base.src, base.dport, base.sport
        if base.proto == "icmp":
            p.name = "echo-reply" if reply else "echo-request"
            p.ident, p.number = self.ident, self.count
        if base.proto in _PAYLOADS:
            p.payload = _PAYLOADS[base.proto](rng, p)
        return p


def dccp(rng: random.Random, p: Packet) -> bytes:
    """A DCCP header of any type, now and then with options or a data offset that cannot be (RFC 4340 5.1)."""
    options = rng.choice((b"", b"", b"\0\0\0\0", b"\1\1\x20\3", b"\x2c\3\0\0", b"\x20\x63\0\0"))
    doff = rng.choice((0, 2, 60)) if rng.random() < 0.1 else 4 + len(options) // 4
    return struct.pack(">HHBBHBBHI", p.sport, p.dport, doff, 0, 0, rng.randrange(11) << 1 | 1, 0, 0, 1) + options


def mobility(rng: random.Random, p: Packet) -> bytes:
    """A mobility header; one that says another header follows is malformed (RFC 6275 6.1)."""
    return bytes((59 if rng.random() < 0.9 else 17, rng.choice((0, 1)), rng.choice((0, 1, 5, 6, 9)), 0)) + b"\0" * 12


_PAYLOADS = {"33": dccp, "135": mobility}


class SctpTalk:
    """An SCTP association as its two ends would run it, with liberties."""

    LATER = ("DATA", "DATA,SACK", "SACK", "HEARTBEAT", "HEARTBEAT_ACK", "ABORT", "SHUTDOWN", "SHUTDOWN_ACK", "SHUTDOWN_COMPLETE", "ERROR",
             "INIT", "INIT_ACK", "COOKIE_ECHO", "COOKIE_ACK")

    def __init__(self, rng: random.Random, base: Packet) -> None:
        self.rng, self.base, self.stage = rng, base, 0
        self.tags = (rng.randrange(1, 9), rng.randrange(9, 17))         # that packets to each side carry

    def next(self) -> Packet:
        rng, b = self.rng, self.base
        self.stage += 1
        if self.stage <= 4 and rng.random() < 0.9:
            side, chunk = ((0, "INIT"), (1, "INIT_ACK"), (0, "COOKIE_ECHO"), (1, "COOKIE_ACK"))[self.stage - 1]
        else:
            side, chunk = rng.randrange(2), rng.choice(self.LATER)
        p = replace(b, chunk=chunk, length=rng.choice((0, 4, 16)), tag=0 if chunk == "INIT" else self.tags[1 - side])
        if chunk in ("INIT", "INIT_ACK"):
            p.seq = self.tags[side]
        if side:
            p.src, p.dst, p.sport, p.dport = b.dst, b.src, b.dport, b.sport
        if rng.random() < 0.1:
            p.tag = rng.choice((0, 1, self.tags[side], 99))
        return p


class TcpTalk:
    """A TCP connection as its two ends would run it, with liberties."""

    def __init__(self, rng: random.Random, base: Packet) -> None:
        self.rng, self.base = rng, base
        self.next_seq = [rng.randrange(1 << 32), rng.randrange(1 << 32)]
        self.stage = 0
        self.pickup = rng.random() < 0.15           # starts in the middle
        self.options = rng.choice(("", "mss 1460", "mss 1460,sackOK", "mss 1460,sackOK,wscale 7", "wscale 3"))

    def next(self) -> Packet:
        side, flags, length = self.plan()
        p = self.segment(side, flags, length)
        return self.deviate(p, side) if self.rng.random() < 0.25 else p

    def plan(self) -> tuple[int, str, int]:
        """(side, flags, payload) of the next step of an orderly life."""
        self.stage += 1
        if not self.pickup and self.stage <= 3:
            return ((0, "S", 0), (1, "S.", 0), (0, ".", 0))[self.stage - 1]
        rng = self.rng
        side = rng.randrange(2)
        kind = rng.choices((".", "P.", "F.", "R.", "R", "S"), (6, 4, 3, 1, 1, 1))[0]
        return side, kind, rng.choice((0, 1, 10, 100)) if kind == "P." else 0

    def segment(self, side: int, flags: str, length: int) -> Packet:
        b = self.base
        p = replace(b, flags=flags, length=length, seq=self.next_seq[side], options=self.options if "S" in flags else "")
        if side:
            p.src, p.dst, p.sport, p.dport = b.dst, b.src, b.dport, b.sport
        p.ack = self.next_seq[1 - side] if "." in flags else 0
        p.win = self.rng.choice((65535, 65535, 5000, 100, 0))
        self.next_seq[side] = (self.next_seq[side] + length + ("S" in flags) + ("F" in flags)) & 0xffffffff
        return p

    def deviate(self, p: Packet, side: int) -> Packet:
        rng = self.rng
        what = rng.randrange(6)
        if what == 0:
            p.seq = (p.seq + rng.choice((-1, 1, 10, 1000, 65535, 65536, 70000, -1000, -70000, 1 << 31))) & 0xffffffff
        elif what == 1 and "." in p.flags:
            p.ack = (p.ack + rng.choice((-1, 1, 1000, -1000, 66000, -66001, -70000, 1 << 31))) & 0xffffffff
        elif what == 2:
            p.flags = rng.choice(("S", "S.", "F", "F.", "R", "R.", ".", "", "SF", "FPU", "P.", "U.", "SU", "S.E", "SEW"))
        elif what == 3:
            p.win = rng.choice((0, 1, 65535))
        elif what == 4:
            p.options = rng.choice(("nop,nop", "TS 1:2", "x 01010101", "sack 5:9", "mss 500", "wscale 14", "wscale 15", "x 0300"))
        elif what == 5:
            self.next_seq[side] = p.seq              # it will be sent again
        return p
