"""Packets as bytes, for tests of the tracker: IPv4 and IPv6, checksums right unless a test spoils them."""

import socket
import struct

CLIENT, SERVER, ROUTER = "10.0.1.2", "10.0.2.2", "10.0.9.9"
CLIENT6, SERVER6, ROUTER6 = "2001:db8:1::2", "2001:db8:2::2", "2001:db8:9::9"
FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, ".": 16, "U": 32, "E": 64, "W": 128}


def checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) & 1:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def is6(address: str) -> bool:
    return ":" in address


def raw(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if is6(address) else socket.AF_INET, address)


def ip(src: str, dst: str, proto: int, payload: bytes, *, ttl: int = 64, ident: int = 1, frag: int = 0) -> bytes:
    """IPv4 or IPv6 header before the payload."""
    if is6(src):
        return struct.pack("!IHBB", 6 << 28, len(payload), proto, ttl) + raw(src) + raw(dst) + payload
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), ident, frag, ttl, proto, 0, raw(src), raw(dst))
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def pseudo(src: str, dst: str, proto: int, length: int) -> bytes:
    if is6(src):
        return raw(src) + raw(dst) + struct.pack("!II", length, proto)
    return raw(src) + raw(dst) + struct.pack("!BBH", 0, proto, length)


def tcp(src, sport, dst, dport, flags, *, seq=0, ack=0, win=65535, data=b"", options=b"", bad=False, **header) -> bytes:
    """flags: letters F S R P . U E W (. = ACK).  options are padded with NOPs."""
    options += b"\1" * (-len(options) % 4)
    bits = sum(FLAGS[letter] for letter in flags)
    offset = (20 + len(options)) // 4 << 4
    segment = struct.pack("!HHIIBBHHH", sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, offset, bits, win, 0, 0) + options + data
    value = checksum(pseudo(src, dst, 6, len(segment)) + segment) ^ (0x5555 if bad else 0)
    return ip(src, dst, 6, segment[:16] + struct.pack("!H", value) + segment[18:], **header)


def udp(src, sport, dst, dport, data=b"x", *, proto=17, length=None, check=None, coverage=None, **header) -> bytes:
    """UDP, or UDP-Lite with proto=136 and coverage.  check=0: none; length: what the field says."""
    field = coverage if coverage is not None else (8 + len(data) if length is None else length)
    segment = struct.pack("!HHHH", sport, dport, field, 0) + data
    covered = segment[: coverage or len(segment)] if proto == 136 else segment
    value = checksum(pseudo(src, dst, 17, len(segment)) + covered) or 0xFFFF      # 17 for UDP-Lite too: see simple.pxd
    value = value if check is None else check
    return ip(src, dst, proto, segment[:6] + struct.pack("!H", value) + segment[8:], **header)


def icmp(src, dst, kind, code=0, ident=77, seq=1, data=b"", *, rest=None, bad=False, **header) -> bytes:
    """ICMP or ICMPv6, by the address; `rest` replaces id and sequence number."""
    proto = 58 if is6(src) else 1
    body = struct.pack("!BBH", kind, code, 0) + (struct.pack("!HH", ident, seq) if rest is None else rest) + data
    value = checksum((pseudo(src, dst, 58, len(body)) if is6(src) else b"") + body) ^ (0x5555 if bad else 0)
    return ip(src, dst, proto, body[:2] + struct.pack("!H", value) + body[4:], **header)


def icmp_error(src, dst, kind, code, quoted: bytes, **header) -> bytes:
    return icmp(src, dst, kind, code, rest=b"\0\0\0\0", data=quoted, **header)
