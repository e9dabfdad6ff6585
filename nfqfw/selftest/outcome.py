"""What the two twins are compared by: emitted and delivered packets, counters, connections; normalised, digested, told.

Overview.  An `Outcome` is plain data that either twin fills.  The normaliser is a table: every field that may differ is named
here with its reason, and nothing else is masked.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from nfqfw.selftest.packets import IPV4, checksum

Counters = dict[tuple[str, str], list[tuple[int, int]]]

EXPECTED, SEEN_REPLY, ASSURED, CONFIRMED, SRC_NAT, DST_NAT = 1, 2, 4, 8, 16, 32
COMPARED_STATUS = EXPECTED | SEEN_REPLY | ASSURED | SRC_NAT | DST_NAT

# Time-outs that the trackers and the generator's policies set, seconds.  A random case compares the class: the twins' clocks are not
# one clock.
TIMEOUTS = (3, 10, 20, 30, 40, 50, 60, 70, 80, 90, 120, 140, 150, 180, 210, 300, 600, 900, 1800, 3600, 432000)
TIMEOUT_SLACK = 2               # seconds a case without waits may take on a loaded machine


class Connection(NamedTuple):
    """One entry of the connection table; ends are (source, destination, source key, destination key)."""

    proto: int
    original: tuple[str, str, int, int]
    reply: tuple[str, str, int, int]
    status: int
    state: str
    timeout: int                # seconds left
    mark: int
    zone: int                   # of the original direction, and of the reply << 16

    def normal(self) -> Connection:
        return self._replace(status=self.status & COMPARED_STATUS, timeout=timeout_class(self.timeout))


def timeout_class(seconds: int) -> int:
    """The time-out that was set, from what is left of it TIMEOUT_SLACK seconds later at most."""
    for base in TIMEOUTS:
        if base - TIMEOUT_SLACK - 1 <= seconds <= base:
            return base
    return seconds


class Emitted(NamedTuple):
    """One packet that came out: `point` is client or server (a frame on that link) or input (delivered to the router)."""

    point: str
    data: bytes                 # from the IP header on, normalised
    mark: int                   # 0 for frames


@dataclass(slots=True)
class Outcome:
    steps: list[list[Emitted]] = field(default_factory=list)        # what each packet of the case caused, in order
    classes: list[str] = field(default_factory=list)                # ctstate of each packet, where it was asked for
    states: list[list[Connection]] = field(default_factory=list)    # connections after each packet, where asked for
    counters: Counters = field(default_factory=dict)
    connections: list[Connection] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)               # what each conntrack command said, normalised

    def digests(self) -> list[int]:
        """One 64-bit digest per packet of what it caused."""
        return [_digest(step) for step in self.steps]

    def final(self) -> int:
        """A 64-bit digest of counters and connections."""
        return _digest((sorted(self.counters.items()), connections_digest(self.connections)))


def normal_listing(code: int, text: str) -> str:
    """What a conntrack command says, as it is compared: lines in any order (a hash table's), ids and port ids taken out, time-outs as the
    ten seconds that they lie in."""
    text = re.sub(r"\bid=\d{6,}", "id=N", re.sub(r"<id>\d+", "<id>N", text))           # an ICMP id has at most five digits
    text = re.sub(r"(<deltatime>|delta-time=)\d+", r"\1N", text)
    text = re.sub(r"(^(?:ipv[46] +\d+ )?[a-z]\w+ +\d+ |^|-t |<timeout>)(\d+)(?= |<)", lambda m: m[1] + str(-(-int(m[2]) // 10) * 10), text, flags=re.M)
    return "\n".join([f"code {code}", *sorted(text.splitlines())])


def connections_digest(connections: list[Connection]) -> int:
    return _digest(sorted(c.normal() for c in connections))


def _digest(value: object) -> int:
    return int.from_bytes(hashlib.blake2b(repr(value).encode(), digest_size=8).digest(), "big")


def normal_packet(data: bytes, family: int, generated: bool) -> bytes:
    """The bytes that are compared.

    A TCP checksum that the kernel left to the device is completed, also where an error quotes it.
    generated: the packet was made by the router (REJECT, an ICMP error of the stack): the IPv4 identification is the
    kernel's own counter, and so is zeroed (with the header checksum redone).
    IPv6 fragments: a datagram that Linux reassembled leaves with a random identification; it is zeroed.
    Everything else is compared.
    """
    data = quoted_completed(completed(data, family), family)
    if family != IPV4:
        return _without_fragment_id(data)
    if not generated or len(data) < 20:
        return data
    head = bytearray(data[:(data[0] & 15) * 4])
    head[4:6] = b"\0\0"
    head[10:12] = b"\0\0"
    struct.pack_into(">H", head, 10, checksum(bytes(head)))
    return bytes(head) + data[len(head):]


def generated(data: bytes, family: int) -> bool:
    """True for a packet whose source is the router: REJECT, the stack's ICMP errors, and what a case sends locally."""
    return family == IPV4 and data[12:15] in (b"\x0a\0\x01", b"\x0a\0\x02") and data[15] == 1


def completed(data: bytes, family: int) -> bytes:
    """A TCP packet of the kernel's own whose checksum was left to the device, as the device would send it."""
    at = (data[0] & 15) * 4 if family == IPV4 else 40
    if data[9 if family == IPV4 else 6] != 6 or len(data) < at + 20:
        return data
    ends = data[12:20] if family == IPV4 else data[8:40]
    pseudo = ends + struct.pack(">HH" if family == IPV4 else ">II", *((6, len(data) - at) if family == IPV4 else (len(data) - at, 6)))
    if data[at + 16:at + 18] != struct.pack(">H", ~checksum(pseudo) & 0xffff):
        return data
    segment = data[at:at + 16] + b"\0\0" + data[at + 18:]
    return data[:at + 16] + struct.pack(">H", checksum(pseudo + segment)) + data[at + 18:]


def quoted_completed(data: bytes, family: int) -> bytes:
    """An ICMP error of the router's own that quotes such a packet of its own: the quoted checksum completed, then the error's."""
    at = (data[0] & 15) * 4 if family == IPV4 else 40
    proto, errors = (1, (3, 4, 5, 11, 12)) if family == IPV4 else (58, (1, 2, 3, 4))
    if data[9 if family == IPV4 else 6] != proto or len(data) < at + 48 or data[at] not in errors:
        return data
    whole = data[at + 8:]
    inner = completed(whole, family) if whole[0] >> 4 == (4 if family == IPV4 else 6) else whole
    if inner == whole:
        return data
    message = data[at:at + 2] + b"\0\0" + data[at + 4:at + 8] + inner
    covered = message if family == IPV4 else data[8:40] + struct.pack(">II", len(message), 58) + message
    return data[:at] + message[:2] + struct.pack(">H", checksum(covered)) + message[4:]


def trains_joined(frames: list[Emitted], family: int, first_sent: int) -> list[Emitted]:
    """Fragments of one datagram as one packet, where Linux re-cuts: to read a transport header (or the packet that an ICMP
    error quotes) that is spread over fragments, it pulls them together, and they leave in other sizes.  Fragments whose first
    was sent with PULLED bytes of the transport (first_sent) stay as they are, but for ICMP, where that may still not be all it reads.

    An IPv6 datagram that is no longer than its largest fragment was leaves Linux whole; nfqfw lets the fragments go, which the
    receiver cannot tell from it.  Where destination options stand behind a routing header it puts the fragment header in front
    of them, wherever the sender had it.
    """
    out: list[Emitted] = []
    train: list[Emitted] = []
    for e in frames:
        part = _fragment_of(e.data, family)
        if part is None or (not train and part[1]):
            out += train + [e]
            train = []
            continue
        train.append(e)
        if not part[2]:
            parts = [_fragment_of(t.data, family) for t in train]
            edges = [sum(len(p[3]) for p in parts[:i]) for i in range(len(parts))]
            whole = [p[1] for p in parts] == edges and len({p[0] for p in parts}) == 1 and (
                first_sent < PULLED or _is_icmp(train[0].data, family) or _fits_its_largest(train, family)
                or _header_moves(train[0].data, family))
            out += [_joined(train, parts, family)] if whole else train
            train = []
    return out + train


def _is_icmp(fragment: bytes, family: int) -> bool:
    return fragment[9] == 1 if family == IPV4 else fragment[fragment_header(fragment)[1]] == 58


def _fits_its_largest(train: list[Emitted], family: int) -> bool:
    largest = max(len(e.data) for e in train)
    return family != IPV4 and 40 + sum(len(_fragment_of(e.data, family)[3]) for e in train) <= largest


def _header_moves(first: bytes, family: int) -> bool:
    """Whether destination options stand behind a routing header of an IPv6 fragment that is the first."""
    kind, at, routed = first[6], 40, False
    while family != IPV4 and kind in (0, 43, 44, 60) and at + 2 <= len(first):
        if kind == 60 and routed:
            return True
        routed |= kind == 43
        kind, at = first[at], at + (8 if kind == 44 else 8 * (first[at + 1] + 1))
    return False


def _joined(train: list[Emitted], parts: list, family: int) -> Emitted:
    payload = b"".join(p[3] for p in parts)
    if family != IPV4:
        return train[0]._replace(data=joined6([e.data for e in train]))
    return train[0]._replace(data=b"joined" + parts[0][0] + payload)


PULLED = 88                     # bytes: an ICMPv6 error's header, the quoted IPv6 header, 40 of extension headers or transport


def _fragment_of(data: bytes, family: int) -> tuple[bytes, int, bool, bytes] | None:
    """(ends and protocol, offset in bytes, more follow, payload) of a fragment, None for a whole packet."""
    if family == IPV4:
        word = struct.unpack_from(">H", data, 6)[0]
        head = (data[0] & 15) * 4
        return (data[1:2] + data[8:10] + data[12:20], (word & 0x1fff) * 8, bool(word & 0x2000), data[head:]) if word & 0x3fff else None
    kind, at = data[6], 40
    while kind in (0, 43, 60) and at + 2 <= len(data):
        kind, at = data[at], at + 8 * (data[at + 1] + 1)
    if kind != 44 or at + 8 > len(data):
        return None
    word = struct.unpack_from(">H", data, at + 2)[0]
    return data[:4] + data[7:at] + data[at:at + 1], word & 0xfff8, bool(word & 1), data[at + 8:]


def fragment_header(data: bytes) -> tuple[int, int]:
    """(offset of the byte that announces the fragment header, offset of the header) of an IPv6 packet; (0, 0): it has none."""
    announced, kind, at = 6, data[6], 40
    while kind != 44:
        if kind not in (0, 43, 60) or at + 2 > len(data):
            return 0, 0
        announced, kind, at = at, data[at], at + 8 * (data[at + 1] + 1)
    return announced, at


def joined6(fragments: list[bytes]) -> bytes:
    """The datagram of IPv6 fragments, all of them, in offset order: what Linux delivers once it has merged them."""
    announced, at = fragment_header(fragments[0])
    payload = b"".join(f[fragment_header(f)[1] + 8:] for f in fragments)
    head = bytearray(fragments[0][:at])
    head[announced] = fragments[0][at]
    struct.pack_into(">H", head, 4, len(head) - 40 + len(payload))
    return bytes(head) + payload


def with_marks(frames: list[Emitted], marks: list[int]) -> list[Emitted]:
    """Frames with the marks of the packets that left; only where one packet is one frame can they be told."""
    if len(marks) != len(frames):
        return frames
    return [e._replace(mark=m) for e, m in zip(frames, marks, strict=True)]


def _without_fragment_id(data: bytes) -> bytes:
    """An IPv6 packet with the identification of its fragment header zeroed; other packets as they are."""
    kind, at = data[6], 40
    while kind in (0, 43, 60) and at + 2 <= len(data):
        kind, at = data[at], at + 8 * (data[at + 1] + 1)
    return data[:at + 4] + b"\0\0\0\0" + data[at + 8:] if kind == 44 and at + 8 <= len(data) else data


# ---- telling a difference -------------------------------------------------------------------------------------------

Place = tuple[object, ...]       # where two Outcomes can differ: a packet, a counter, a command, a connection


def differences(kernel: Outcome, ours: Outcome) -> list[str]:
    """What differs, as lines that a reader understands; empty when the two are equal."""
    return [line for lines in compared(kernel, ours).values() for line in lines]


def compared(kernel: Outcome, ours: Outcome) -> dict[Place, list[str]]:
    """The places at which two Outcomes differ, each with the lines that say how."""
    out: dict[Place, list[str]] = {}
    for i, (theirs, mine) in enumerate(zip(kernel.steps, ours.steps, strict=False), 1):
        if theirs != mine:
            out["packet", i] = [f"packet {i}: kernel {shown_step(theirs)}", f"packet {i}: nfqfw  {shown_step(mine)}"]
    if len(kernel.steps) != len(ours.steps):
        out["packets",] = [f"packets: kernel {len(kernel.steps)}, nfqfw {len(ours.steps)}"]
    for i, (theirs, mine) in enumerate(zip(kernel.commands, ours.commands, strict=True), 1):
        if theirs != mine:
            out["command", i] = [f"conntrack, kernel: {theirs}", f"conntrack, nfqfw:  {mine}"]
    return out | _counter_differences(kernel.counters, ours.counters) | _connection_differences(kernel.connections, ours.connections)


def _counter_differences(kernel: Counters, ours: Counters) -> dict[Place, list[str]]:
    out: dict[Place, list[str]] = {}
    for key in sorted(set(kernel) | set(ours)):
        theirs, mine = kernel.get(key, []), ours.get(key, [])
        for i in range(max(len(theirs), len(mine))):
            a = theirs[i] if i < len(theirs) else None
            b = mine[i] if i < len(mine) else None
            if (a or (0, 0)) != (b or (0, 0)):
                out["counter", *key, i] = [f"counter {key[0]} {key[1]} rule {i + 1}: kernel {a}, nfqfw {b}"]
    return out


def _connection_differences(kernel: list[Connection], ours: list[Connection]) -> dict[Place, list[str]]:
    """Connections are told apart by protocol, original tuple and zone."""
    out: dict[Place, list[str]] = {}
    theirs, mine = {c.normal() for c in kernel}, {c.normal() for c in ours}
    for c in sorted(theirs ^ mine):
        side = "only in the kernel:" if c in theirs else "only in nfqfw:     "
        out.setdefault(("connection", c.proto, c.original, c.zone), []).append(f"connection {side} {shown_connection(c)}")
    return out


def shown_step(step: list[Emitted]) -> str:
    return "; ".join(f"{e.point} mark {e.mark} {e.data.hex()}" for e in step) or "nothing"


def shown_connection(c: Connection) -> str:
    return f"proto {c.proto} {c.state or '-'} {c.timeout} {c.original} {c.reply} status {c.status:#x} mark {c.mark} zone {c.zone}"
