"""One packet as data: its bytes for either family, and its line of text.

Overview.  A `Packet` names its ends (C0 a client, S0 a server, R1 the router's client side ...), not their addresses, so
that one flow is told once and runs as IPv4 and IPv6.  `build()` makes the wire bytes from the IP header on, with valid
checksums unless the packet says otherwise; it is written with struct because a run builds a million of them (scapy checks
it in the tests).  `Packet.text()` and `parse_packet()` are inverse.

    tcp S 1000:1000(0) win 65535 <mss 1460,sackOK,wscale 7>
    C1:1111>S0:80 tcp . 1001:1011(10) ack 5001 win 1000
    udp 20 ttl=3
    icmp echo-request id 7 seq 1 len 8
    icmp unreachable/1 cut=8 { C0:5000>S0:53 udp 20 }
    frag 0+24+ id=77 { udp 40 }
    sctp INIT tag=0
    proto 89 len=20
    raw 4500001c...
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field, fields, replace
from socket import AF_INET, AF_INET6, inet_pton

IPV4, IPV6 = 2, 10
PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "sctp": 132, "udplite": 136}
ICMP6 = 58

# name -> ((type, code) of ICMP, (type, code) of ICMPv6)
ICMP_NAMES = {
    "echo-request": ((8, 0), (128, 0)),
    "echo-reply": ((0, 0), (129, 0)),
    "unreachable": ((3, 1), (1, 3)),
    "port-unreachable": ((3, 3), (1, 4)),
    "too-big": ((3, 4), (2, 0)),
    "time-exceeded": ((11, 0), (3, 0)),
    "parameter-problem": ((12, 0), (4, 0)),
}
TCP_FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, ".": 16, "U": 32, "E": 64, "W": 128}
CHUNKS = {"DATA": 0, "INIT": 1, "INIT_ACK": 2, "SACK": 3, "HEARTBEAT": 4, "HEARTBEAT_ACK": 5, "ABORT": 6, "SHUTDOWN": 7,
          "SHUTDOWN_ACK": 8, "ERROR": 9, "COOKIE_ECHO": 10, "COOKIE_ACK": 11, "SHUTDOWN_COMPLETE": 14}

# The lab's addresses.  C and S hosts lie behind gateways on the router's two links; R1 and R2 are the router itself.
# C9's IPv6 address is made of the client link's hardware address (EUI-64).
_PLAN4 = {"C": "10.1.0.", "S": "10.2.0."}
_PLAN6 = {"C": "2001:db8:a::", "S": "2001:db8:b::"}
_FIXED4 = {"R1": "10.0.1.1", "R2": "10.0.2.1", "B1": "10.0.1.255", "L": "127.0.0.1", "N": "192.0.2.7",
           "M32": "255.255.255.255", "M24": "255.255.255.0", "M0": "0.0.0.0"}         # masks, for commands
_FIXED6 = {"C9": "2001:db8:a::ff:fe00:102", "R1": "2001:db8:1::1", "R2": "2001:db8:2::1", "B1": "ff02::1", "L": "::1", "N": "2001:db8:ffff::7",
           "M32": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "M24": "ffff:ffff:ffff:ffff::", "M0": "::"}


def address(name: str, family: int) -> str:
    """Text address of a name of the plan; C0 is host 10 of the client net (::10 for IPv6)."""
    fixed = (_FIXED4 if family == IPV4 else _FIXED6).get(name)
    if fixed:
        return fixed
    plan = (_PLAN4 if family == IPV4 else _PLAN6).get(name[0])
    return f"{plan}{10 + int(name[1:])}" if plan else name


_packed: dict[tuple[str, int], bytes] = {}


def packed(name: str, family: int) -> bytes:
    key = (name, family)
    if key not in _packed:
        _packed[key] = inet_pton(AF_INET if family == IPV4 else AF_INET6, address(name, family))
    return _packed[key]


@dataclass(slots=True)
class Packet:
    """Sequence numbers, ports and lengths are host order; `-1` or None means "what is right"."""

    proto: str = "udp"                  # a key of PROTOCOLS, "icmp" for both families, "raw", "frag", or a number as text
    src: str = "C0"
    dst: str = "S0"
    sport: int = 0
    dport: int = 0
    flags: str = "S"                    # TCP, letters of TCP_FLAGS
    seq: int = 0
    ack: int = 0
    win: int = 65535
    urg: int = 0
    options: str = ""                   # TCP, as inside < >
    kind: int = 0                       # ICMP type, as a number of the family; or name in `name`
    code: int = 0
    name: str = ""
    ident: int = 0
    number: int = 0                     # ICMP sequence number
    chunk: str = "INIT"
    tag: int = 0
    length: int = 0                     # payload bytes
    payload: bytes | None = None
    inner: Packet | None = None         # ICMP error, fragment: the packet inside
    offset: int = 0                     # fragment: bytes of the inner packet's layer 4
    size: int = 0
    more: bool = False
    ttl: int = 64
    tos: int = 0
    id: int = 0                         # IPv4 identification; fragment id
    df: bool = False
    sum: int = -1                       # transport checksum to write; -1 right, -2 wrong by one
    l4len: int = -1                     # UDP: length field
    coverage: int = -1                  # UDP-Lite
    doff: int = -1                      # TCP: data offset in words
    cut: int = -1                       # keep so many bytes from layer 4 on (the IP header says the shorter length)
    ext: str = ""                       # IPv6 extension headers in order, letters: h hop-by-hop, d destination, r routing, a AH
    iphdr: str = ""                     # IPv4 header options as hex
    raw: bytes = b""

    def text(self) -> str:
        return _text(self)


# ---- bytes ----------------------------------------------------------------------------------------------------------

def checksum(data: bytes) -> int:
    """Internet checksum: complement of the one's-complement sum of big-endian words (RFC 1071)."""
    if len(data) & 1:
        data += b"\0"
    total = int.from_bytes(data, "big") % 0xffff
    if total == 0 and any(data):
        total = 0xffff
    return ~total & 0xffff


def pseudo(p: Packet, family: int, proto: int, length: int) -> bytes:
    if family == IPV4:
        return packed(p.src, family) + packed(p.dst, family) + struct.pack(">BBH", 0, proto, length & 0xffff)
    return packed(p.src, family) + packed(p.dst, family) + struct.pack(">II", length, proto)


def _set_sum(p: Packet, segment: bytearray, at: int, covered: bytes) -> None:
    value = p.sum if p.sum >= 0 else checksum(covered)
    if p.sum == -2:
        value = (value + 1) & 0xffff or 1
    struct.pack_into(">H", segment, at, value)


def body(p: Packet) -> bytes:
    return p.payload if p.payload is not None else bytes((i * 7 + 1) & 0xff for i in range(p.length))


def tcp_options(text: str) -> bytes:
    """The bytes of `mss 1460,sackOK,wscale 7,...`, padded to words with EOL."""
    out = b""
    for word in filter(None, text.split(",")):
        name, _, value = word.strip().partition(" ")
        if name == "mss":
            out += struct.pack(">BBH", 2, 4, int(value))
        elif name == "wscale":
            out += struct.pack(">BBB", 3, 3, int(value))
        elif name == "sackOK":
            out += b"\4\2"
        elif name == "nop":
            out += b"\1"
        elif name == "eol":
            out += b"\0"
        elif name == "TS":
            a, _, b = value.partition(":")
            out += struct.pack(">BBII", 8, 10, int(a), int(b))
        elif name == "sack":
            edges = [int(e) & 0xffffffff for pair in value.split() for e in pair.split(":")]
            out += struct.pack(f">BB{len(edges)}I", 5, 2 + 4 * len(edges), *edges)
        elif name == "x":
            out += bytes.fromhex(value)
        else:
            raise ValueError(f"TCP option {word!r}")
    return out + b"\0" * (-len(out) % 4)


def _tcp(p: Packet, family: int) -> bytes:
    options = tcp_options(p.options)
    flags = 0
    for letter in p.flags:
        flags |= TCP_FLAGS.get(letter, 0)
    doff = p.doff if p.doff >= 0 else 5 + len(options) // 4
    out = bytearray(struct.pack(">HHIIBBHHH", p.sport, p.dport, p.seq & 0xffffffff, p.ack & 0xffffffff, (doff & 15) << 4,
                                flags, p.win, 0, p.urg) + options + body(p))
    _set_sum(p, out, 16, pseudo(p, family, 6, len(out)) + out)
    return bytes(out)


def _udp(p: Packet, family: int) -> bytes:
    data = body(p)
    length = 8 + len(data)
    out = bytearray(struct.pack(">HHHH", p.sport, p.dport, p.l4len if p.l4len >= 0 else length, 0) + data)
    _set_sum(p, out, 6, pseudo(p, family, 17, length) + out)
    if p.sum < 0 and out[6:8] == b"\0\0":
        out[6:8] = b"\xff\xff"
    return bytes(out)


def _udplite(p: Packet, family: int) -> bytes:
    data = body(p)
    length = 8 + len(data)
    coverage = p.coverage if p.coverage >= 0 else length
    out = bytearray(struct.pack(">HHHH", p.sport, p.dport, coverage, 0) + data)
    _set_sum(p, out, 6, pseudo(p, family, 136, length) + bytes(out[:coverage or length]))
    if p.sum < 0 and out[6:8] == b"\0\0":
        out[6:8] = b"\xff\xff"
    return bytes(out)


def icmp_type(p: Packet, family: int) -> tuple[int, int]:
    if p.name:
        kind, code = ICMP_NAMES[p.name][0 if family == IPV4 else 1]
        return kind, (p.code or code)
    return p.kind, p.code


def _icmp(p: Packet, family: int) -> bytes:
    kind, code = icmp_type(p, family)
    data = body(p) if p.inner is None else _quoted(p, family)
    out = bytearray(struct.pack(">BBHHH", kind, code, 0, p.ident, p.number) + data)
    covered = bytes(out) if family == IPV4 else pseudo(p, family, ICMP6, len(out)) + bytes(out)
    _set_sum(p, out, 2, covered)
    return bytes(out)


def _quoted(p: Packet, family: int) -> bytes:
    """What an ICMP error quotes: the inner packet's IP header and `size` bytes behind it (0: all)."""
    inner = build(p.inner, family)
    header = (inner[0] & 15) * 4 if family == IPV4 else 40
    return inner[:header + p.size] if p.size else inner


def crc32c(data: bytes) -> int:
    """CRC-32C (RFC 9260 appendix A); slow, SCTP packets here are few and short."""
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82f63b78 & -(crc & 1))
    return crc ^ 0xffffffff


def _sctp(p: Packet, family: int) -> bytes:
    chunks = b""
    for name in p.chunk.split(","):
        data = struct.pack(">IIHHI", p.seq or 1, 65535, 1, 1, 1) if name in ("INIT", "INIT_ACK") else body(p)
        chunks += struct.pack(">BBH", CHUNKS[name], 0, 4 + len(data)) + data + b"\0" * (-len(data) % 4)
    head = struct.pack(">HHI", p.sport, p.dport, p.tag)
    crc = crc32c(head + b"\0\0\0\0" + chunks) ^ (0 if p.sum == -1 else 1)
    return head + struct.pack("<I", crc) + chunks


def _gre(p: Packet, family: int) -> bytes:
    if p.ident:                         # version 1, PPTP's: key present, call id
        return struct.pack(">HHHHI", 0x3001, 0x880b, p.length, p.ident, p.seq) + body(p)
    return struct.pack(">HH", 0, 0x0800) + body(p)


_LAYER4 = {"tcp": _tcp, "udp": _udp, "udplite": _udplite, "icmp": _icmp, "sctp": _sctp, "gre": _gre}


def protocol(p: Packet, family: int) -> int:
    if p.proto == "frag":
        return protocol(p.inner, family)
    if p.proto == "icmp":
        return 1 if family == IPV4 else ICMP6
    return PROTOCOLS[p.proto] if p.proto in PROTOCOLS else int(p.proto)


def layer4(p: Packet, family: int) -> bytes:
    maker = _LAYER4.get(p.proto)
    segment = maker(p, family) if maker else body(p)
    return segment if p.cut < 0 else segment[:p.cut]


def build(p: Packet, family: int) -> bytes:
    """Wire bytes of a packet from its IP header on."""
    if p.proto == "raw":
        return p.raw
    if p.proto == "frag":
        return _fragment(p, family)
    segment = layer4(p, family)
    if family == IPV4:
        return ip4_header(p, protocol(p, family), len(segment), p.id, 0x4000 if p.df else 0) + segment
    chain, first = _extensions(p, protocol(p, family))
    return ip6_header(p, first, len(chain) + len(segment)) + chain + segment


def _fragment(p: Packet, family: int) -> bytes:
    inner = p.inner
    whole = layer4(inner, family)
    part = whole[p.offset:p.offset + p.size]
    number = protocol(inner, family)
    if family == IPV4:
        word = (p.offset >> 3) | (0x2000 if p.more else 0) | (0x4000 if p.df else 0)
        return ip4_header(inner, number, len(part), p.id, word) + part
    chain, first = _extensions(inner, 44)
    header = struct.pack(">BBHI", number, 0, (p.offset & 0xfff8) | p.more, p.id)
    return ip6_header(inner, first, len(chain) + 8 + len(part)) + chain + header + part


def ip4_header(p: Packet, proto: int, length: int, ident: int, word: int) -> bytes:
    options = bytes.fromhex(p.iphdr)
    options += b"\0" * (-len(options) % 4)
    head = bytearray(struct.pack(">BBHHHBBH", 0x45 + len(options) // 4, p.tos, 20 + len(options) + length, ident, word,
                                 p.ttl, proto, 0) + packed(p.src, IPV4) + packed(p.dst, IPV4) + options)
    struct.pack_into(">H", head, 10, checksum(bytes(head)))
    return bytes(head)


def ip6_header(p: Packet, proto: int, length: int) -> bytes:
    return struct.pack(">IHBB", 0x60000000 | p.tos << 20, length, proto, p.ttl) + packed(p.src, IPV6) + packed(p.dst, IPV6)


# letter -> (number, what follows the next header's number): one PadN; type 0, 0 segments left; SPI 7, sequence number 1, 12 bytes of ICV
_EXTENSIONS = {"h": (0, b"\0\1\4\0\0\0\0"), "d": (60, b"\0\1\4\0\0\0\0"), "r": (43, b"\0\0\0\0\0\0\0"),
               "a": (51, b"\4\0\0\0\0\0\7\0\0\0\1" + b"\x5a" * 12)}


def _extensions(p: Packet, proto: int) -> tuple[bytes, int]:
    """The chain of extension headers, and the number the IPv6 header announces."""
    out = b""
    for letter in reversed(p.ext):
        number, rest = _EXTENSIONS[letter]
        out = bytes((proto,)) + rest + out
        proto = number
    return out, proto


# ---- text -----------------------------------------------------------------------------------------------------------

_DEFAULTS = Packet()
_WORDS = ("ttl", "tos", "id", "sum", "l4len", "coverage", "doff", "cut", "tag", "urg", "size")
_ENDS = re.compile(r"^(\w+|[\w.:]+)(?::(\d+))?>(\w+)(?::(\d+))?$")
_TOKEN = re.compile(r"<[^>]*>(?=\s|$)|\{|\}|[^\s{}]+")


def _ends(p: Packet) -> str:
    sport = f":{p.sport}" if p.sport else ""
    dport = f":{p.dport}" if p.dport else ""
    return f"{p.src}{sport}>{p.dst}{dport}"


def _text(p: Packet) -> str:
    if p.proto == "raw":
        return f"raw {p.raw.hex()}"
    words = [_HEADS.get(p.proto, _head_other)(p)]
    words += [f"{w}={getattr(p, w)}" for w in _WORDS if getattr(p, w) != getattr(_DEFAULTS, w)
              and not (w == "size" and p.proto == "frag")]
    words += [w for w in ("df",) if getattr(p, w)]
    words += [f"{w}={getattr(p, w)}" for w in ("ext", "iphdr") if getattr(p, w)]
    if p.payload is not None:
        words.append(f"pay={p.payload.hex()}")
    if p.inner is not None:
        words.append("{ " + p.inner.text() + " }")
    return " ".join(words if p.proto == "frag" else [_ends(p), *words])


def _head_tcp(p: Packet) -> str:
    end = (p.seq + p.length + ("S" in p.flags) + ("F" in p.flags)) & 0xffffffff
    ack = f" ack {p.ack}" if p.ack or "." in p.flags else ""
    options = f" <{p.options}>" if p.options else ""
    return f"tcp {p.flags or '-'} {p.seq}:{end}({p.length}){ack} win {p.win}{options}"


def _head_icmp(p: Packet) -> str:
    what = p.name + (f"/{p.code}" if p.code else "") if p.name else f"{p.kind}/{p.code}"
    return f"icmp {what} id {p.ident} seq {p.number} len {p.length}"


def _head_frag(p: Packet) -> str:
    return f"frag {p.offset}+{p.size}{'+' if p.more else ''}"


def _head_other(p: Packet) -> str:
    return f"proto {p.proto} len {p.length}"


_HEADS = {
    "tcp": _head_tcp, "icmp": _head_icmp, "frag": _head_frag,
    "udp": lambda p: f"udp {p.length}", "udplite": lambda p: f"udplite {p.length}",
    "gre": lambda p: f"gre {p.ident} len {p.length}",
    "sctp": lambda p: f"sctp {p.chunk} seq {p.seq} len {p.length}",
}


class FlowError(ValueError):
    """A packet line that is not in the grammar."""


def parse_packet(text: str, default: Packet | None = None) -> Packet:
    """The packet of one line; `default` gives the ends (names and ports) that the line leaves out."""
    tokens = _TOKEN.findall(text)
    packet, rest = _parse(tokens, default or _DEFAULTS)
    if rest:
        raise FlowError(f"left over: {' '.join(rest)!r}")
    return packet


def _parse(tokens: list[str], default: Packet) -> tuple[Packet, list[str]]:
    tokens = list(tokens)
    p = Packet(src=default.src, dst=default.dst, sport=default.sport, dport=default.dport)
    if tokens and ">" in tokens[0] and tokens[0] != "<":
        found = _ENDS.match(tokens.pop(0))
        if not found:
            raise FlowError(f"ends of the packet in {' '.join(tokens)!r}")
        p.src, p.dst = found[1], found[3]
        p.sport, p.dport = int(found[2] or 0), int(found[4] or 0)
    if not tokens:
        raise FlowError("no packet")
    p.proto = tokens.pop(0)
    if p.proto == "raw":
        p.raw = bytes.fromhex(tokens.pop(0))
        return p, tokens
    if p.proto == "frag":                   # its ends are the inner packet's
        p.src, p.dst, p.sport, p.dport = _DEFAULTS.src, _DEFAULTS.dst, 0, 0
    reader = _READERS.get(p.proto)
    if reader is None:
        raise FlowError(f"protocol {p.proto!r}")
    reader(p, tokens)
    return p, _modifiers(p, tokens, default)


_PAIRS = {"ack": "ack", "win": "win", "id": "ident", "seq": "number", "len": "length"}


def _modifiers(p: Packet, tokens: list[str], default: Packet) -> list[str]:
    while tokens and tokens[0] != "}":
        word = tokens.pop(0)
        key, equals, value = word.partition("=")
        if word == "{":
            p.inner, tokens = _parse(tokens, default)
            if not tokens or tokens.pop(0) != "}":
                raise FlowError("no } at the end of the inner packet")
        elif word == "df":
            p.df = True
        elif word.startswith("<"):
            p.options = word[1:-1]
        elif equals and key in _WORDS:
            setattr(p, key, int(value, 0))
        elif equals and key in ("ext", "iphdr"):
            setattr(p, key, value)
        elif equals and key == "pay":
            p.payload = bytes.fromhex(value)
        elif word in _PAIRS and tokens:
            name = "seq" if word == "seq" and p.proto in ("sctp", "gre") else _PAIRS[word]
            setattr(p, name, int(tokens.pop(0), 0))
        else:
            raise FlowError(f"word {word!r}")
    return tokens


def _read_tcp(p: Packet, tokens: list[str]) -> None:
    flags = tokens.pop(0)
    if set(flags) - set(TCP_FLAGS) - {"-"}:
        raise FlowError(f"TCP flags {flags!r}")
    p.flags = "" if flags == "-" else flags
    found = re.match(r"^(\d+):(\d+)\((\d+)\)$", tokens.pop(0))
    if not found:
        raise FlowError("TCP wants first:last(bytes)")
    p.seq, p.length = int(found[1]), int(found[3])


def _read_length(p: Packet, tokens: list[str]) -> None:
    p.length = int(tokens.pop(0))


def _read_icmp(p: Packet, tokens: list[str]) -> None:
    what, slash, code = tokens.pop(0).partition("/")
    p.code = int(code) if slash else 0
    if what in ICMP_NAMES:
        p.name = what
    else:
        p.kind = int(what)


def _read_frag(p: Packet, tokens: list[str]) -> None:
    found = re.match(r"^(\d+)\+(\d+)(\+?)$", tokens.pop(0))
    if not found:
        raise FlowError("frag wants offset+bytes, and + when more follow")
    p.offset, p.size, p.more = int(found[1]), int(found[2]), bool(found[3])


def _read_sctp(p: Packet, tokens: list[str]) -> None:
    p.chunk = tokens.pop(0)
    if set(p.chunk.split(",")) - set(CHUNKS):
        raise FlowError(f"SCTP chunks {p.chunk!r}")


def _read_gre(p: Packet, tokens: list[str]) -> None:
    p.ident = int(tokens.pop(0))


def _read_other(p: Packet, tokens: list[str]) -> None:
    p.proto = str(int(tokens.pop(0)))


_READERS = {"tcp": _read_tcp, "udp": _read_length, "udplite": _read_length, "icmp": _read_icmp, "frag": _read_frag,
            "sctp": _read_sctp, "gre": _read_gre, "proto": _read_other}

__all__ = ["IPV4", "IPV6", "FlowError", "Packet", "address", "build", "checksum", "fields", "field", "packed",
           "parse_packet", "replace"]
