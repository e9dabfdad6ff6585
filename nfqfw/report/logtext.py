"""The text of a LOG line, field by field as the kernel's nf_log_syslog prints it, from the bytes of a packet.

Overview.  `log_line` takes what a RECORD_LOG carries: interfaces, source MAC, mark, the first bytes of the packet.  One
function per header; each returns its words and what follows, a table names it by protocol number.  Bytes that were not
captured print as the kernel prints a short packet: `INCOMPLETE [n bytes]`.

Accepted difference: the kernel prints the whole link-layer header behind MAC= (destination, source, type); NFQUEUE gives
only the source, so the destination reads 00:00:00:00:00:00.
"""

import ipaddress
import struct
from dataclasses import dataclass

# LogInfo.flags: NF_LOG_* of the kernel, the options --log-tcp-sequence, -tcp-options, -ip-options, -uid, -macdecode
TCP_SEQUENCE, TCP_OPTIONS, IP_OPTIONS, UID, MAC_DECODE = 1, 2, 4, 8, 32

TCP_FLAGS = ((0x80, "CWR"), (0x40, "ECE"), (0x20, "URG"), (0x10, "ACK"), (0x08, "PSH"), (0x04, "RST"), (0x02, "SYN"), (0x01, "FIN"))

# ICMP type -> bytes that must follow the first four for the kernel to print more
ICMP_NEEDS = {0: 4, 3: 28, 4: 28, 5: 28, 8: 4, 11: 28, 12: 28, 13: 20, 14: 20, 17: 12, 18: 12}
ICMP_ERRORS = (3, 4, 5, 11)                     # those whose inner packet is printed in [ ]
ICMP6_ERRORS = (1, 2, 3, 4)
IPV6_EXTENSIONS = (0, 43, 44, 50, 51, 60)       # hop-by-hop, routing, fragment, ESP, AH, destination options
FAMILY_IPV6 = 10


@dataclass(frozen=True, slots=True)
class Facts:
    """What a line needs besides the bytes.  Interface names, not numbers; mark and total in host order and bytes."""
    interface_in: str = ""
    interface_out: str = ""
    physical_in: str = ""
    physical_out: str = ""
    source_mac: bytes = b""
    mark: int = 0
    uid: int | None = None
    gid: int | None = None


def log_line(family: int, data: bytes, facts: Facts, prefix: str = "", flags: int = 0) -> str:
    """The line without time stamp, host name and level; ends without a space, as syslog stores it."""
    words = [f"IN={facts.interface_in}", f"OUT={facts.interface_out}"]
    words += [f"PHYSIN={facts.physical_in}"] if facts.physical_in else []
    words += [f"PHYSOUT={facts.physical_out}"] if facts.physical_out else []
    if facts.interface_in:
        words.append(mac_header(facts.source_mac, family, flags))
    words += ipv6(data, flags, True) if family == FAMILY_IPV6 else ipv4(data, flags, True)
    if flags & UID and facts.uid is not None:
        words += [f"UID={facts.uid}", f"GID={facts.gid}"]
    if facts.mark:
        words.append(f"MARK={facts.mark:#x}")
    return printable(prefix) + " ".join(words)


def mac_header(source: bytes, family: int, flags: int) -> str:
    """Ethernet header as the kernel dumps it; empty where the device has none (tunnels)."""
    kind = b"\x86\xdd" if family == FAMILY_IPV6 else b"\x08\x00"
    if len(source) != 6:
        return "MAC="
    if flags & MAC_DECODE:
        return f"MACSRC={source.hex(':')} MACDST={bytes(6).hex(':')} MACPROTO={kind.hex()}"
    return "MAC=" + (bytes(6) + source + kind).hex(":")


def printable(text: str) -> str:
    """A prefix is free text of the ruleset: control characters must not reach a terminal or split a line."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def incomplete(rest: bytes) -> list[str]:
    return [f"INCOMPLETE [{len(rest)} bytes]"]


def hex_options(options: bytes) -> list[str]:
    return [f"OPT ({options.hex().upper()})"]


# ---- network layer ---------------------------------------------------------------------------------------------------

def ipv4(data: bytes, flags: int, outer: bool) -> list[str]:
    if len(data) < 20:
        return incomplete(data)
    first, tos, total, ident, fragment, ttl, proto = struct.unpack_from(">BBHHHBB", data)
    words = [f"SRC={ipaddress.IPv4Address(data[12:16])}", f"DST={ipaddress.IPv4Address(data[16:20])}",
             f"LEN={total}", f"TOS=0x{tos & 0x1e:02X}", f"PREC=0x{tos & 0xe0:02X}", f"TTL={ttl}", f"ID={ident}"]
    words += [name for bit, name in ((0x8000, "CE"), (0x4000, "DF"), (0x2000, "MF")) if fragment & bit]
    offset = fragment & 0x1fff
    words += [f"FRAG:{offset}"] if offset else []
    header = (first & 15) * 4
    if flags & IP_OPTIONS and header > 20:
        if len(data) < header:
            return words + incomplete(data[20:])
        words += hex_options(data[20:header])
    return words + transport(IPV4_TRANSPORTS, proto, data[header:], offset != 0, flags, outer)


def ipv6(data: bytes, flags: int, outer: bool) -> list[str]:
    if len(data) < 40:
        return incomplete(data)
    flow, payload, proto, hop_limit = struct.unpack_from(">IHBB", data)
    words = [f"SRC={ipaddress.IPv6Address(data[8:24]).exploded}", f"DST={ipaddress.IPv6Address(data[24:40]).exploded}",
             f"LEN={payload + 40}", f"TC={flow >> 20 & 0xff}", f"HOPLIMIT={hop_limit}", f"FLOWLBL={flow & 0xfffff}"]
    at, later = 40, False
    while proto in IPV6_EXTENSIONS:
        rest = data[at:]
        if len(rest) < 8:
            return words
        length, later, shown, last = extension(proto, rest, later, flags)
        words += shown
        if last:
            return words
        proto, at = rest[0], at + length
    return words + transport(IPV6_TRANSPORTS, proto, data[at:], later, flags, outer)


def extension(proto: int, rest: bytes, later: bool, flags: int) -> tuple[int, bool, list[str], bool]:
    """One extension header of at least 8 bytes: its length, whether a later fragment follows, its words, whether it ends the walk."""
    words, length, last = [], (rest[1] + 1) * 8, False
    if proto == 44:
        offset, ident = struct.unpack_from(">HI", rest, 2)
        words = ["FRAG:" + str(offset & 0xfff8)] + (["INCOMPLETE"] if offset & 1 else []) + [f"ID:{ident:08x}"]
        length, later = 8, later or bool(offset & 0xfff8)
    elif proto in (50, 51):
        name, at = ("ESP", 0) if proto == 50 else ("AH", 4)
        words = [name] + ([] if later else [f"SPI=0x{int.from_bytes(rest[at:at + 4], 'big'):x}"])
        length, last = (rest[1] + 2) * 4, later or proto == 50
        words = words if flags & IP_OPTIONS else []
    else:
        last = later
    if flags & IP_OPTIONS:
        words = ["OPT (", *words, ")"]
    return length, later, words, last


# ---- transport layer: f(bytes from its header on, flags, outer) -> words; the caller prints PROTO= ---------------------

def tcp(rest: bytes, flags: int, outer: bool) -> list[str]:
    if len(rest) < 20:
        return incomplete(rest)
    sport, dport, seq, ack, offset, bits, window, _, urgent = struct.unpack_from(">HHIIBBHHH", rest)
    words = [f"SPT={sport}", f"DPT={dport}"]
    words += [f"SEQ={seq}", f"ACK={ack}"] if flags & TCP_SEQUENCE else []
    words += [f"WINDOW={window}", f"RES=0x{(offset & 15) << 2:02x}"]
    words += [name for bit, name in TCP_FLAGS if bits & bit]
    words.append(f"URGP={urgent}")
    header = (offset >> 4) * 4
    if flags & TCP_OPTIONS and header > 20:
        words += hex_options(rest[20:header]) if len(rest) >= header else ["OPT (TRUNCATED)"]
    return words


def udp(rest: bytes, flags: int, outer: bool) -> list[str]:
    if len(rest) < 8:
        return incomplete(rest)
    return ["SPT=%d DPT=%d LEN=%d" % struct.unpack_from(">HHH", rest)]


def spi(at: int, least: int):
    """AH and ESP: the security parameter index stands `at` bytes in; the header has `least` bytes."""
    def words(rest: bytes, flags: int, outer: bool) -> list[str]:
        return incomplete(rest) if len(rest) < least else [f"SPI=0x{int.from_bytes(rest[at:at + 4], 'big'):x}"]
    return words


def icmp(rest: bytes, flags: int, outer: bool) -> list[str]:
    if len(rest) < 8:
        return incomplete(rest)
    kind, code = rest[0], rest[1]
    words = [f"TYPE={kind}", f"CODE={code}"]
    if len(rest) < 4 + ICMP_NEEDS.get(kind, 0):
        return words + incomplete(rest)
    if kind in (0, 8):
        words.append("ID=%d SEQ=%d" % struct.unpack_from(">HH", rest, 4))
    if kind == 12:
        words.append(f"PARAMETER={rest[4]}")
    if kind == 5:
        words.append(f"GATEWAY={ipaddress.IPv4Address(rest[4:8])}")
    if kind in ICMP_ERRORS and outer:
        words.append("[" + " ".join(ipv4(rest[8:], flags, False)) + " ]")
    if (kind, code) == (3, 4):
        words.append("MTU=%d" % struct.unpack_from(">H", rest, 6))
    return words


def icmp6(rest: bytes, flags: int, outer: bool) -> list[str]:
    if len(rest) < 8:
        return incomplete(rest)
    kind, code = rest[0], rest[1]
    words = [f"TYPE={kind}", f"CODE={code}"]
    if kind in (128, 129):
        words.append("ID=%d SEQ=%d" % struct.unpack_from(">HH", rest, 4))
    if kind == 4:
        words.append(f"POINTER={int.from_bytes(rest[4:8], 'big'):08x}")
    if kind in ICMP6_ERRORS and outer:
        words.append("[" + " ".join(ipv6(rest[8:], flags, False)) + " ]")
        words += [f"MTU={int.from_bytes(rest[4:8], 'big')}"] if kind == 2 else []
    return words


IPV4_TRANSPORTS = {6: ("TCP", tcp), 17: ("UDP", udp), 136: ("UDPLITE", udp), 1: ("ICMP", icmp), 51: ("AH", spi(4, 12)), 50: ("ESP", spi(0, 8))}
IPV6_TRANSPORTS = {6: ("TCP", tcp), 17: ("UDP", udp), 136: ("UDPLITE", udp), 58: ("ICMPv6", icmp6)}


def transport(table: dict, proto: int, rest: bytes, later: bool, flags: int, outer: bool) -> list[str]:
    """PROTO= and what the protocol adds; a later fragment has no transport header, so nothing."""
    if proto not in table:
        return [f"PROTO={proto}"]
    name, words = table[proto]
    return [f"PROTO={name}"] + ([] if later else words(rest, flags, outer))
