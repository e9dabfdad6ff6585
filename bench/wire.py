"""Packets of the benchmarks, byte by byte: IPv4 and IPv6 headers and the checksums of RFC 1071."""

from __future__ import annotations

import struct

TCP, UDP = 6, 17
NO_CHECKSUM = 0                 # of UDP over IPv4 (RFC 768): ports can change without it


def checksum(data: bytes) -> int:
    return ~(int.from_bytes(data + b"\0" * (len(data) % 2)) % 0xFFFF) & 0xFFFF


def ipv4(source: bytes, destination: bytes, proto: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0x4000, 63, proto, 0, source, destination)
    return head[:10] + checksum(head).to_bytes(2) + head[12:] + payload


def ipv6(source: bytes, destination: bytes, proto: int, payload: bytes) -> bytes:
    return struct.pack("!IHBB16s16s", 6 << 28, len(payload), proto, 63, source, destination) + payload


def pseudo(source: bytes, destination: bytes, proto: int, length: int) -> bytes:
    """The header that a transport checksum covers too (RFC 8200 8.1; the sum is that of RFC 793's for IPv4)."""
    return source + destination + struct.pack("!II", length, proto)


def summed(payload: bytes, at: int, covered: bytes = b"") -> bytes:
    """payload with its checksum, at offset `at`, over `covered` too.  0 becomes 0xffff: UDP's rule, harmless elsewhere."""
    value = checksum(payload[:at] + b"\0\0" + payload[at + 2:] + b"\0" * (len(payload) % 2) + covered) or 0xFFFF
    return payload[:at] + value.to_bytes(2) + payload[at + 2:]
