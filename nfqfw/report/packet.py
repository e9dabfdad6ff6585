"""A packet in a few words, for people: what a trace says at its head and beside a predicate that failed.

Reads the first bytes of a packet that a record carries (headers, perhaps cut).  Not the parser of the data path, and it
decides nothing: a field that is not there is absent from the summary.
"""

import ipaddress
import struct
from dataclasses import dataclass

PROTOCOLS = {1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 33: "DCCP", 41: "IPv6", 47: "GRE", 50: "ESP", 51: "AH", 58: "ICMPv6",
             132: "SCTP", 136: "UDPLITE"}
WITH_PORTS = (6, 17, 33, 132, 136)
IPV6_EXTENSIONS = (0, 43, 44, 51, 60)
TCP_FLAGS = ((0x02, "SYN"), (0x10, "ACK"), (0x01, "FIN"), (0x04, "RST"), (0x08, "PSH"), (0x20, "URG"), (0x40, "ECE"), (0x80, "CWR"))


@dataclass(frozen=True, slots=True)
class Summary:
    """Header fields, host order.  None: not in the captured bytes."""
    family: int
    source: str = "?"
    destination: str = "?"
    proto: int | None = None
    sport: int | None = None
    dport: int | None = None
    tcp_flags: int | None = None
    icmp: tuple[int, int] | None = None
    ttl: int | None = None
    tos: int | None = None
    fragment: int = 0               # offset in units of 8 bytes
    more_fragments: bool = False

    @property
    def protocol(self) -> str:
        return "?" if self.proto is None else PROTOCOLS.get(self.proto, f"protocol {self.proto}")

    def flags(self) -> str:
        bits = self.tcp_flags or 0
        return ",".join(name for bit, name in TCP_FLAGS if bits & bit) or "no flags"

    def __str__(self) -> str:
        source, destination = self.source, self.destination
        if self.sport is not None:
            form = "[%s]:%d" if self.family == 10 else "%s:%d"
            source, destination = form % (source, self.sport), form % (destination, self.dport)
        words = [self.protocol, source, "->", destination]
        if self.tcp_flags is not None:
            words.append(self.flags())
        if self.icmp:
            words.append("type %d code %d" % self.icmp)
        if self.fragment or self.more_fragments:
            words.append(f"fragment at {self.fragment * 8}")
        return " ".join(words)


def summarise(data: bytes) -> Summary:
    """Summary of a packet that starts with its IP header; never fails, whatever the bytes."""
    version = data[0] >> 4 if data else 0
    if version == 4 and len(data) >= 20:
        return _ipv4(data)
    if version == 6 and len(data) >= 40:
        return _ipv6(data)
    return Summary(family=10 if version == 6 else 2)


def _ipv4(data: bytes) -> Summary:
    fragment = struct.unpack_from(">H", data, 6)[0]
    base = dict(family=2, source=str(ipaddress.IPv4Address(data[12:16])), destination=str(ipaddress.IPv4Address(data[16:20])),
                proto=data[9], ttl=data[8], tos=data[1], fragment=fragment & 0x1fff, more_fragments=bool(fragment & 0x2000))
    return Summary(**base, **_transport(data[9], data[(data[0] & 15) * 4:], bool(fragment & 0x1fff)))


def _ipv6(data: bytes) -> Summary:
    proto, at, fragment, more = data[6], 40, 0, False
    while proto in IPV6_EXTENSIONS and len(data) >= at + 8:
        length = (data[at + 1] + 2) * 4 if proto == 51 else (data[at + 1] + 1) * 8
        if proto == 44:
            word = struct.unpack_from(">H", data, at + 2)[0]
            length, fragment, more = 8, word >> 3, bool(word & 1)
        proto, at = data[at], at + length
        if fragment:
            break
    base = dict(family=10, source=str(ipaddress.IPv6Address(data[8:24])), destination=str(ipaddress.IPv6Address(data[24:40])),
                proto=proto, ttl=data[7], tos=(data[0] & 15) << 4 | data[1] >> 4, fragment=fragment, more_fragments=more)
    return Summary(**base, **_transport(proto, data[at:], bool(fragment)))


def _transport(proto: int, rest: bytes, later: bool) -> dict:
    if later or len(rest) < 4:
        return {}
    if proto in (1, 58):
        return {"icmp": (rest[0], rest[1])}
    if proto not in WITH_PORTS:
        return {}
    ports = dict(zip(("sport", "dport"), struct.unpack_from(">HH", rest), strict=True))
    return ports | ({"tcp_flags": rest[13]} if proto == 6 and len(rest) >= 14 else {})
