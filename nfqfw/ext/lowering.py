"""What a rule's parts become for the compiler: tests, actions, and the fields a later index may use.

Layer: below `compile`, above nothing but opcodes.  Info structs are packed here and in the extensions exactly as the .pxd
beside them declares; sizes are compared by tests/ext/test_layout.py.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

# features of a rule (bits of ProgramHeader.features): strings, so that an extension names what it needs
CONNTRACK, DEFRAG, NAT, REWRITES, PAYLOAD, REROUTES, ACCT = (
    "conntrack", "defrag", "nat", "rewrites", "payload", "reroutes", "acct")
TRACKED = (CONNTRACK, DEFRAG)       # every user of connections also makes the kernel reassemble (spec 4.4)

IPV4, IPV6 = 2, 10


# what a test or target depends on besides the packet's flow, its devices and its mark (enum Reads of _paths.pxd)
READS_FLOW, READS_PACKET, READS_CONNMARK, READS_TCP_FLAGS = 0, 1, 2, 4


class FieldSet(NamedTuple):
    """A condition a packet must fulfil for the test to be true: the field's value lies in one of the ranges.

    Ranges are sorted, disjoint, both ends included.  Fields: saddr daddr (numbers), proto, sport, dport, ctstate (the
    class bit: INVALID 1, ESTABLISHED 2, RELATED 4, NEW 8, UNTRACKED 256), tcp_flags (byte 13), icmp (type << 8 | code),
    fragment (0 or 1), mark.  `in` and `out` have patterns instead: ((name, with "+" for a prefix, inverted),).
    """

    field: str
    ranges: tuple


class Named(NamedTuple):
    """A table that a test keeps beside the Program (_named.pxd); the first word of the test's info will be its number.

    config: struct NamedShape and the match's own part.  Tables of one kind and name are one; name "" is the rule's own.
    family: 0 = both families share it.
    """

    kind: str
    name: str
    family: int
    config: bytes
    refused_in: tuple[str, ...] = ()    # tables where this build cannot evaluate the match


class Test(NamedTuple):
    """One test of a rule.  op is a name of ops.TESTS, info the bytes of its C struct."""

    op: str
    info: bytes = b""
    fields: tuple[FieldSet, ...] = ()
    reads: int = READS_PACKET           # READS_FLOW: the same for every packet of a flow (tuple, state, devices, marks, this host)
    state: bytes = b""                  # first image of its state (limit, quota ...), b"" = none
    features: tuple[str, ...] = ()
    named: Named | None = None


class Action(NamedTuple):
    """A target.  op is a name of ops.ACTIONS."""

    op: str
    info: bytes = b""
    features: tuple[str, ...] = ()
    reads: int = READS_PACKET
    state: bytes = b""                  # first image of its state; the first word of its info will be the state's offset


class Unevaluated(NamedTuple):
    """This build has no evaluator: the rule loads offline and is refused live, with this reason."""

    reason: str


def complement(ranges, low: int, high: int) -> tuple:
    """The rest of low..high."""
    out, start = [], low
    for first, last in ranges:
        if first > start:
            out.append((start, first - 1))
        start = last + 1
    if start <= high:
        out.append((start, high))
    return tuple(out)


def merge(ranges) -> tuple:
    """Sorted and disjoint; empty ranges (first > last) vanish."""
    out: list[tuple[int, int]] = []
    for first, last in sorted(r for r in ranges if r[0] <= r[1]):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(last, out[-1][1]))
        else:
            out.append((first, last))
    return tuple(out)


def field(name: str, ranges, inverted: bool, high: int) -> FieldSet:
    """FieldSet over 0..high of ranges or, inverted, of the rest."""
    ranges = merge(ranges) if len(ranges) != 1 or ranges[0][0] > ranges[0][1] else tuple(ranges)
    return FieldSet(name, complement(ranges, 0, high) if inverted else ranges)


def address_ranges(address: bytes, mask: bytes) -> tuple | None:
    """The one range that a prefix covers; None if the mask is not a prefix."""
    bits = len(mask) * 8
    hosts = ~int.from_bytes(mask, "big") & ((1 << bits) - 1)
    if hosts & (hosts + 1):
        return None
    first = int.from_bytes(address, "big")
    return ((first, first | hosts),)


def interface_info(name: str, inverted: bool) -> bytes:
    """struct InterfaceInfo: name and mask of 16 bytes each; `eth+` compares the bytes before the +, else NUL included."""
    raw = name.encode(errors="surrogateescape")
    if raw.endswith(b"+"):
        raw = raw[:-1]
        mask = b"\xff" * len(raw)
    else:
        mask = b"\xff" * min(16, len(raw) + 1)
    return struct.pack("<16s16sI", raw, mask, inverted)
