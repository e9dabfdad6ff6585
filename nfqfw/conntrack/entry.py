"""Entry: one connection as Python sees it, unpacked from the record that the table or an event ring gives.

A record is `struct ConnRecord` of `table.pxd`; the format below is its layout (a test compares the sizes).
"""

import ipaddress
import struct
from dataclasses import dataclass, field

from nfqfw.conntrack import sctp, tcp
from nfqfw.ext.helpers import name_of
from nfqfw.ext.labels import context_of

RECORD = struct.Struct(
    "<IHHQIIQQIIIHHIIII"        # size kind pad wall timeout portid start stop number master use helper told words[2] secmark pad
    "IIIIBBBBHH4s4s4s4sHHHHIIII"    # ConnHot
    "16s16s16s16sQQQQQQ"        # ConnAddr6 src[2] dst[2], packets[2] bytes[2], labels[2]
)

EXPECTED, SEEN_REPLY, ASSURED, CONFIRMED, SRC_NAT, DST_NAT, DYING = 1, 2, 4, 8, 16, 32, 512
FLAG_ACCT, FLAG_HIDDEN, FLAG_RELATED = 1, 4, 16
TELL_MARK = 128
KINDS = {0: None, 1: "NEW", 2: "UPDATE", 3: "DESTROY"}
WORDS = {132: "vtag", 47: "gre"}        # what the record's two words are, for Entry.extra
PORT_PROTOCOLS = frozenset({6, 17, 132, 136})


@dataclass(slots=True)
class Side:
    """What packets look like in one direction.  Ports of ICMP: sport = id, dport = type << 8 | code; GRE: keys."""

    src: str
    dst: str
    sport: int = 0
    dport: int = 0
    zone: int = 0
    packets: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Entry:
    """A snapshot of one connection.  Times: `timeout` seconds left, `start_ns`/`stop_ns` wall clock, 0 = not stamped."""

    number: int
    id: int
    family: int                 # 2 or 10
    proto: int
    status: int
    timeout: int
    state: int
    mark: int
    original: Side
    reply: Side
    acct: bool = False
    labels: int = 0             # 128 bits
    helper: str = ""
    secctx: str = ""            # security context, as SECMARK names it
    use: int = 1
    master: int = 0
    start_ns: int = 0
    stop_ns: int = 0
    kind: str | None = None     # NEW, UPDATE, DESTROY of an event
    wall_ns: int = 0
    portid: int = 0
    told: int = 0               # TELL_* bits of an event (_conn.pxd)
    flags: int = 0
    extra: dict = field(default_factory=dict)

    @property
    def tcp_state(self) -> str:
        return tcp.STATES[self.state]

    @property
    def state_name(self) -> str | None:
        """TCP and SCTP: name of the state as listings print it; else None."""
        if self.proto == 6:
            return tcp.STATES[self.state]
        return sctp.STATES[self.state] if self.proto == 132 else None

    @classmethod
    def unpack(cls, record: bytes) -> "Entry":
        (_, kind, _, wall, timeout, portid, start, stop, number, master, use, helper, told, word0, word1, secmark, _,
         _, _, status, mark, family, proto, state, flags, zone0, zone1, src0, src1, dst0, dst1,
         sport0, sport1, dport0, dport1, ident, _, _, _,
         src60, src61, dst60, dst61, packets0, packets1, bytes0, bytes1, labels0, labels1) = RECORD.unpack(record[:RECORD.size])
        four = family == 2
        return cls(
            number=number, id=ident, family=family, proto=proto, status=status, timeout=timeout, state=state, mark=mark,
            original=Side(address(src0 if four else src60), address(dst0 if four else dst60), sport0, dport0, zone0, packets0, bytes0),
            reply=Side(address(src1 if four else src61), address(dst1 if four else dst61), sport1, dport1, zone1, packets1, bytes1),
            acct=bool(flags & FLAG_ACCT), labels=labels0 | labels1 << 64, secctx=context_of(secmark), helper=name_of(helper), use=use, master=master, start_ns=start, stop_ns=stop,
            kind=KINDS.get(kind), wall_ns=wall, portid=portid, told=told, flags=flags, extra={WORDS[proto]: (word0, word1)} if proto in WORDS else {},
        )


def address(raw: bytes) -> str:
    """Presentation form of 4 or 16 bytes in wire order."""
    return str(ipaddress.IPv4Address(raw) if len(raw) == 4 else ipaddress.IPv6Address(raw))
