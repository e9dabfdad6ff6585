"""Records of an engine's ring, as Python values.  The layouts are those of _trace.pxd."""

import struct
from dataclasses import dataclass

TRACE, PACKET, LOG = 1, 2, 3                        # RecordKind: the first byte
TRACE_RECORD = struct.Struct("<BBBB7IQ")
PACKET_RECORD = struct.Struct("<BBBBIQqQ10IBBH8s4x")
NO_NUMBER = 0xffffffff

# TraceKind, from 1
EVENTS = ("", "step", "miss", "match", "jump", "goto", "return", "policy", "verdict", "conntrack", "confirm", "mark", "rewrite",
          "nat", "end", "defrag", "reject")


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One step of a walk; the meaning of rule, test and value depends on `event` (see _trace.pxd)."""
    event: str
    hook: int
    table: int
    serial: int
    chain: int
    rule: int
    test: int
    value: int
    mark: int
    ctinfo: int                     # CtInfo; NO_NUMBER before connection tracking
    generation: int


@dataclass(frozen=True, slots=True)
class PacketFacts:
    """A packet as a record carries it.  Times in ns; `data` holds its first bytes, `total` its whole length."""
    kind: int                       # PACKET or LOG
    family: int
    hook: int
    table: int
    serial: int
    now: int
    wall: int
    generation: int
    ifin: int
    ifout: int
    physin: int
    physout: int
    mark: int
    total: int
    rule: int
    uid: int | None
    gid: int | None
    hwaddr: bytes
    data: bytes


def decode(record: bytes) -> TraceEvent | PacketFacts | None:
    """One record; None for a kind that this version does not know."""
    kind = record[0] if record else 0
    if kind == TRACE and len(record) >= TRACE_RECORD.size:
        _, event, hook, table, serial, chain, rule, test, value, mark, ctinfo, generation = TRACE_RECORD.unpack_from(record)
        name = EVENTS[event] if event < len(EVENTS) else f"event {event}"
        return TraceEvent(name, hook, table, serial, chain, rule, test, value, mark, ctinfo, generation)
    if kind in (PACKET, LOG) and len(record) >= PACKET_RECORD.size:
        return _packet(record)
    return None


def _packet(record: bytes) -> PacketFacts:
    (kind, family, hook, table, serial, now, wall, generation, ifin, ifout, physin, physout, mark, total, captured, rule, uid, gid,
     known, hwlen, _, hwaddr) = PACKET_RECORD.unpack_from(record)
    return PacketFacts(
        kind, family, hook, table, serial, now, wall, generation, ifin, ifout, physin, physout, mark, total, rule,
        uid if known & 2 else None, gid if known & 4 else None, hwaddr[:hwlen] if known & 1 else b"",
        record[PACKET_RECORD.size:PACKET_RECORD.size + captured])
