"""Expectation: a connection that a master announced, as Python sees it; and its lines, as conntrack 1.4.7 prints them.

A record is `struct ExpectRecord` of `table.pxd`; the format below is its layout (a test compares the sizes).
"""

import struct
from dataclasses import dataclass, field

from nfqfw.conntrack.entry import Side, address
from nfqfw.conntrack.listing import FAMILIES, name
from nfqfw.ext import helpers

RECORD = struct.Struct(
    "<IHHQII"                               # size kind helper wall timeout number
    "IIIIIBBBB16s16s16sHHHHHH16sB27x"       # Expect: commit expires master master_id id family proto flags klass src dst mask ports ...
    "16s16sHHBBH"                           # the master's original tuple
)
PERMANENT, INACTIVE, USERSPACE = 1, 2, 4
FLAG_WORDS = ((PERMANENT, "PERMANENT"), (INACTIVE, "INACTIVE"), (USERSPACE, "USERSPACE"))
KINDS = {0: None, 4: "NEW", 5: "DESTROY"}
EVENTS = {"NEW": "    [NEW] ", "DESTROY": "[DESTROY] "}
PORTS = frozenset({6, 17, 132, 136})        # protocols whose expectations have ports
XML_HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<expect>'
XML_TAIL = "</expect>"


@dataclass(slots=True)
class Expectation:
    """A snapshot of one expectation.  `mask`: which bits of `side` must be equal; `timeout`: seconds left."""

    family: int
    proto: int
    side: Side
    mask: Side
    master: Side                # original tuple of the connection that expects
    timeout: int = 0
    flags: int = 0
    klass: int = 0
    helper: int = 0             # number of the master's helper
    number: int = 0
    id: int = 0
    kind: str | None = None     # NEW, DESTROY of an event
    wall_ns: int = 0
    extra: dict = field(default_factory=dict)

    @classmethod
    def unpack(cls, record: bytes) -> "Expectation":
        (_, kind, helper, wall, timeout, number, _, _, _, _, ident, family, proto, flags, klass, src, dst, mask, sport, dport, sport_mask,
         zone, _, _, _, _, master_src, master_dst, master_sport, master_dport, _, _, master_zone) = RECORD.unpack(record[:RECORD.size])
        width = 4 if family == 2 else 16

        def text(raw: bytes) -> str:
            return address(raw[:width])

        return cls(family, proto, Side(text(src), text(dst), sport, dport, zone), Side(text(mask), text(b"\xff" * 16), sport_mask, 0xFFFF),
                   Side(text(master_src), text(master_dst), master_sport, master_dport, master_zone), timeout, flags, klass, helper, number,
                   ident, KINDS[kind], wall)


def ports(e: Expectation, side: Side) -> str:
    return f" sport={side.sport} dport={side.dport}" if e.proto in PORTS else ""


def line(e: Expectation) -> str:
    """One expectation as -L and -G print it."""
    flags = ",".join(word for bit, word in FLAG_WORDS if e.flags & bit)
    return (f"{e.timeout} proto={e.proto} src={e.side.src} dst={e.side.dst}{ports(e, e.side)}"
            f" mask-src={e.mask.src} mask-dst={e.mask.dst}{ports(e, e.mask)}"
            f" master-src={e.master.src} master-dst={e.master.dst}{ports(e, e.master)}"
            + (f" zone={e.side.zone}" if e.side.zone else "") + (f" {flags}" if flags else "")
            + f" class={e.klass} helper={helpers.name_of(e.helper)}")


def event_line(e: Expectation, output: frozenset) -> str:
    """One event as -E prints it."""
    stamp = f"[{e.wall_ns // 10**9}.{e.wall_ns // 1000 % 10**6:06}]\t" if "timestamp" in output else ""
    return stamp + EVENTS[e.kind] + line(e)


def proc_line(e: Expectation) -> str:
    """One line of /proc/net/nf_conntrack_expect."""
    from nfqfw.conntrack.listing import full_address

    flags = ",".join(word for bit, word in FLAG_WORDS if e.flags & bit)
    return (f"{e.timeout} l3proto = {e.family} proto={e.proto} src={full_address(e.side.src)} dst={full_address(e.side.dst)}{ports(e, e.side)} "
            + (f"{flags} " if flags else "") + helpers.policy_name(e.helper, e.klass))


def xml_line(e: Expectation) -> str:
    """One expectation as -o xml has it."""
    def three(inside) -> str:
        return "".join(f"<{tag}>{inside(side)}</{tag}>" for tag, side in (("expected", e.side), ("mask", e.mask), ("master", e.master)))

    kind = f' type="{e.kind.lower()}"' if e.kind else ""
    keys = three(lambda side: f"<sport>{side.sport}</sport><dport>{side.dport}</dport>") if e.proto in PORTS else three(lambda side: "")
    return (f'<flow{kind}><layer3 protonum="{e.family}" protoname="{FAMILIES[e.family]}">'
            + three(lambda side: f"<src>{side.src}</src><dst>{side.dst}</dst>")
            + f'</layer3><layer4 protonum="{e.proto}" protoname="{name(e.proto)}">{keys}</layer4><meta>'
            + f"<helper-name>{helpers.name_of(e.helper)}</helper-name><timeout>{e.timeout}</timeout><class>{e.klass}</class>"
            + (f"<zone>{e.side.zone}</zone>" if e.side.zone else "")
            + "".join(f"<{word.lower()}/>" for bit, word in FLAG_WORDS if e.flags & bit) + "</meta></flow>")


def as_dict(e: Expectation) -> dict:
    """What a line says, for `-o json` and for programs."""
    def side(s: Side) -> dict:
        return {"src": s.src, "dst": s.dst} | ({"sport": s.sport, "dport": s.dport} if e.proto in PORTS else {})

    out = {"family": FAMILIES[e.family], "protocol": name(e.proto), "protonum": e.proto, "timeout": e.timeout, "expected": side(e.side),
           "mask": side(e.mask), "master": side(e.master), "class": e.klass, "helper": helpers.name_of(e.helper),
           "flags": [word for bit, word in FLAG_WORDS if e.flags & bit]}
    if e.side.zone:
        out["zone"] = e.side.zone
    if e.kind:
        out |= {"event": e.kind, "wall_ns": e.wall_ns}
    return out
