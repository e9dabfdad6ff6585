"""What the two twins are compared by: emitted and delivered packets, counters, connections; normalised, digested, told.

Overview.  An `Outcome` is plain data that either twin fills.  The normaliser is a table: every field that may differ is named
here with its reason, and nothing else is masked.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from nfqfw.selftest.packets import IPV4, checksum

Counters = dict[tuple[str, str], list[tuple[int, int]]]

EXPECTED, SEEN_REPLY, ASSURED, CONFIRMED, SRC_NAT, DST_NAT = 1, 2, 4, 8, 16, 32
COMPARED_STATUS = EXPECTED | SEEN_REPLY | ASSURED | SRC_NAT | DST_NAT

# Time-outs that the trackers set, seconds.  A case without waits compares the class: the twins' clocks are not one clock.
TIMEOUTS = (3, 10, 30, 60, 120, 180, 210, 300, 600, 1800, 3600, 432000)
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
    zone: int

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

    def digests(self) -> list[int]:
        """One 64-bit digest per packet of what it caused."""
        return [_digest(step) for step in self.steps]

    def final(self) -> int:
        """A 64-bit digest of counters and connections."""
        return _digest((sorted(self.counters.items()), connections_digest(self.connections)))


def connections_digest(connections: list[Connection]) -> int:
    return _digest(sorted(c.normal() for c in connections))


def _digest(value: object) -> int:
    return int.from_bytes(hashlib.blake2b(repr(value).encode(), digest_size=8).digest(), "big")


def normal_packet(data: bytes, family: int, generated: bool) -> bytes:
    """The bytes that are compared.

    generated: the packet was made by the router (REJECT, an ICMP error of the stack): the IPv4 identification is the
    kernel's own counter, and so is zeroed (with the header checksum redone).
    IPv6 fragments: a datagram that Linux reassembled leaves with a random identification; it is zeroed.
    Everything else is compared.
    """
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

def differences(kernel: Outcome, ours: Outcome) -> list[str]:
    """What differs, as lines that a reader understands; empty when the two are equal."""
    out = []
    for i, (theirs, mine) in enumerate(zip(kernel.steps, ours.steps, strict=False)):
        if theirs != mine:
            out += [f"packet {i + 1}: kernel {_shown(theirs)}", f"packet {i + 1}: nfqfw  {_shown(mine)}"]
    if len(kernel.steps) != len(ours.steps):
        out.append(f"packets: kernel {len(kernel.steps)}, nfqfw {len(ours.steps)}")
    out += _counter_differences(kernel.counters, ours.counters)
    theirs = {c.normal() for c in kernel.connections}
    mine = {c.normal() for c in ours.connections}
    out += [f"connection only in the kernel: {shown_connection(c)}" for c in sorted(theirs - mine)]
    out += [f"connection only in nfqfw:      {shown_connection(c)}" for c in sorted(mine - theirs)]
    return out


def _counter_differences(kernel: Counters, ours: Counters) -> list[str]:
    out = []
    for key in sorted(set(kernel) | set(ours)):
        theirs, mine = kernel.get(key, []), ours.get(key, [])
        for i in range(max(len(theirs), len(mine))):
            a = theirs[i] if i < len(theirs) else None
            b = mine[i] if i < len(mine) else None
            if (a or (0, 0)) != (b or (0, 0)):
                out.append(f"counter {key[0]} {key[1]} rule {i + 1}: kernel {a}, nfqfw {b}")
    return out


def _shown(step: list[Emitted]) -> str:
    return "; ".join(f"{e.point} mark {e.mark} {e.data.hex()}" for e in step) or "nothing"


def shown_connection(c: Connection) -> str:
    return f"proto {c.proto} {c.state or '-'} {c.timeout} {c.original} {c.reply} status {c.status:#x} mark {c.mark} zone {c.zone}"
