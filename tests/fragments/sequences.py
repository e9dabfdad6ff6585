"""All sequences of up to three fragments over five slots, and how an outcome is written down.

A slot is 8 bytes; a fragment is any run of slots, with or without MF: 30 fragments, 30 + 900 + 27,000 sequences.  The data
of the fragment at place i of a sequence is filled with the byte i * 16 + slot + 1, so the outcome shows whose copy of a
slot went on.  Each sequence is a datagram of its own (id, and a source that changes every 60,000).

An outcome is what left the router for one sequence, in order, as one text: "offset:more:bytes ..." in hexadecimal.
"""

from __future__ import annotations

import itertools
import struct

SLOTS = 5
FRAGMENTS = [(first, last, more) for first in range(SLOTS) for last in range(first, SLOTS) for more in (0, 1)]
PROTO = 253                     # RFC 3692: for experiments; no transport header to look into


def sequences():
    for length in (1, 2, 3):
        yield from itertools.product(range(len(FRAGMENTS)), repeat=length)


def data_of(place: int, first: int, last: int) -> bytes:
    return b"".join(bytes([place * 16 + slot + 1]) * 8 for slot in range(first, last + 1))


def packet4(number: int, place: int, fragment: tuple[int, int, int], src: bytes, dst: bytes) -> bytes:
    first, last, more = fragment
    data = data_of(place, first, last)
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(data), number % 60000 + 1, more << 13 | first, 64, PROTO, 0,
                         src[:3] + bytes([src[3] + number // 60000]), dst)
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:] + data


def packet6(number: int, place: int, fragment: tuple[int, int, int], src: bytes, dst: bytes) -> bytes:
    first, last, more = fragment
    data = data_of(place, first, last)
    return (struct.pack("!IHBB16s16s", 6 << 28, 8 + len(data), 44, 64, src, dst)
            + struct.pack("!BBHI", PROTO, 0, first << 3 | more, number + 1) + data)


def number_of(family: int, packet: bytes, src: bytes) -> int:
    """The sequence that an emitted packet belongs to; -1: none (an unfragmented IPv6 packet has no id left)."""
    if family == 4:
        return struct.unpack_from("!H", packet, 4)[0] - 1 + (packet[15] - src[3]) * 60000
    return struct.unpack_from("!I", packet, 44)[0] - 1 if packet[6] == 44 else -1


def describe(family: int, packet: bytes) -> str:
    """One emitted packet: offset in slots, MF, data; IPv6 without a fragment header is "w"."""
    if family == 4:
        word = struct.unpack_from("!H", packet, 6)[0]
        return f"{word & 0x1FFF:x}:{word >> 13 & 1}:{packet[20:struct.unpack_from('!H', packet, 2)[0]].hex()}"
    end = 40 + struct.unpack_from("!H", packet, 4)[0]
    if packet[6] != 44:
        return f"w:0:{packet[40:end].hex()}"
    word = struct.unpack_from("!H", packet, 42)[0]
    return f"{word >> 3:x}:{word & 1}:{packet[48:end].hex()}"
