"""Seeded random conversations for the twins: (point, packet, key) lists, biased to the corners of each tracker.

A seed names a conversation for ever: a difference found once can be replayed by its number.
"""

import random
import struct

from nfqfw.conntrack.sctp import crc32c_table
from tests.conntrack.packets import checksum, icmp, ip, pseudo, tcp, udp  # noqa: F401
from tests.conntrack.twin import Key

ENDS = {4: ("10.1.0.10", "10.2.0.10"), 6: ("2001:db8:a::10", "2001:db8:b::10")}     # hosts behind the oracle's router
TCP_FLAGS = ("S", "S.", "F.", ".", "R", "R.", "S", "S.", "F.", ".", ".", ".", "P.", "R", "F", "", "SF", "SU", "FU.", "U.", "SR")
SEQ_OFFSETS = (-1, 1, -2, 10, -10, 1000, -1000, 65535, 65536, -65535, -66000, -66001, 70000, 100000, -100000, 1 << 31)
POINTS = ("client", "server")
_CRC = crc32c_table()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 255]
    return ~crc & 0xFFFFFFFF


def sctp(src, sport, dst, dport, tag, chunks, *, bad=0) -> bytes:
    """chunks: (type, flags, value, length field or None)."""
    body = b"".join(
        bytes([kind, flags]) + struct.pack("!H", 4 + len(value) if length is None else length) + value + b"\0" * (-len(value) % 4)
        for kind, flags, value, length in chunks)
    head = struct.pack("!HHI", sport, dport, tag)
    return ip(src, dst, 132, head + struct.pack("<I", crc32c(head + b"\0\0\0\0" + body) ^ bad) + body)


def syn_options(r: random.Random) -> bytes:
    options = b"\4\2" if r.random() < 0.5 else b""
    return options + (bytes([3, 3, r.choice((0, 2, 7, 14, 15))]) if r.random() < 0.5 else b"")


def tcp_conversation(seed: int):
    """Handshakes, data, closes and nonsense, sequence numbers right or near the edges of the windows."""
    r = random.Random(seed)
    client, server = ENDS[6 if r.random() < 0.3 else 4]
    port = 1024 + seed % 60000
    ends = ((client, port, server, 80), (server, 80, client, port))
    following = [r.randrange(1 << 32) if r.random() < 0.3 else 1000, 500000]
    many_syns = r.random() < 0.3
    out = []

    def say(d, flags, seq, ack, length=0, options=b""):
        window = r.choice((65535, 65535, 1000, 0, 100))
        out.append((POINTS[d], tcp(*ends[d], flags, seq=seq, ack=ack, win=window, data=b"x" * length, options=options)))

    if r.random() < 0.6:
        for d, flags in ((0, "S"), (1, "S.")):
            say(d, flags, following[d], following[1 - d] if d else 0, options=syn_options(r))
            following[d] += 1
        if r.random() < 0.8:
            say(0, ".", *following)
    for _ in range(r.randrange(3, 14)):
        d = r.randrange(2)
        flags = r.choice(("S", "S.", ".")) if many_syns and r.random() < 0.6 else r.choice(TCP_FLAGS)
        length = 0 if "S" in flags else r.choice((0, 0, 0, 1, 10, 500, 1000))
        off = 0 if r.random() < 0.55 else r.choice(SEQ_OFFSETS)
        seq = following[d] + off
        ack = following[1 - d] + (0 if r.random() < 0.65 else r.choice(SEQ_OFFSETS))
        if "R" in flags and r.random() < 0.1:
            seq = 0
        if "." not in flags and r.random() < 0.7:
            ack = 0
        options = syn_options(r) if "S" in flags else b""
        if "." in flags and r.random() < (0.5 if many_syns else 0.15):
            edge = following[1 - d] + r.choice((0, 10, 100, -50))
            options += b"\5\x0a" + struct.pack("!II", (edge - 10) & 0xFFFFFFFF, edge & 0xFFFFFFFF)
        say(d, flags, seq, ack, length, options)
        if off == 0 and flags:
            following[d] += length + ("S" in flags) + ("F" in flags)
        if r.random() < 0.1:
            out.append(out[-1])
    return Key(6, client, server, port, 80), out


def sctp_conversation(seed: int):
    """Associations that start right and then see wrong tags, bundles, repeats and chunks out of place."""
    r = random.Random(seed)
    client, server = ENDS[6 if r.random() < 0.4 else 4]
    port = 1024 + seed % 60000
    ends = ((client, port, server, 80), (server, 80, client, port))
    tags = [r.randrange(1, 1 << 32), r.randrange(1, 1 << 32)]
    script = ((0, 1), (1, 2), (0, 10), (1, 11), (0, 0), (0, 7), (1, 8), (0, 14))
    out = []
    for _ in range(r.randrange(2, 12)):
        d, kinds = r.randrange(2), [r.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 12, 4, 5)) for _ in range(r.choice((1, 1, 1, 1, 2)))]
        if r.random() < 0.6 and len(out) < 8:
            d, kind = script[len(out)]
            kinds = [kind]
        chunks = []
        for kind in kinds:
            value = b"abcde"[: r.randrange(6)] if r.random() < 0.3 else b""
            if kind in (1, 2):
                value = struct.pack("!I", tags[d] if r.random() < 0.85 else r.randrange(1 << 32)) + b"\0" * 12
            chunks.append((kind, 1 if kind in (6, 14) and r.random() < 0.4 else 0, value, 0 if r.random() < 0.02 else None))
        roll = r.random()
        tag = tags[1 - d] if roll < 0.75 else tags[d] if roll < 0.85 else r.choice((0, 1, r.randrange(1 << 32)))
        if 1 in kinds and r.random() < 0.9:
            tag = 0
        out.append((POINTS[d], sctp(*ends[d], tag, chunks, bad=r.random() < 0.03)))
    return Key(132, client, server, port, 80), out


def udp_conversation(seed: int):
    """UDP and UDP-Lite with wrong lengths, coverages and checksums."""
    r = random.Random(seed)
    client, server = ENDS[6 if r.random() < 0.4 else 4]
    proto = r.choice((17, 136))
    port = 1024 + seed % 60000
    ends = ((client, port, server, 53), (server, 53, client, port))
    out = []
    for _ in range(r.randrange(2, 7)):
        d, data, wrong = r.randrange(2), b"z" * r.randrange(20), {}
        roll = r.random()
        if roll < 0.15:
            wrong["length"] = r.choice((0, 7, 8, 7 + len(data), 9 + len(data), 9))
        elif roll < 0.3:
            wrong["check"] = r.choice((0, 0x1234))
        if proto == 136:
            wrong["coverage"] = wrong.pop("length", None)
        out.append((POINTS[d], udp(*ends[d], data, proto=proto, **wrong)))
    return Key(proto, client, server, port, 53), out


def icmp_conversation(seed: int):
    """Requests, answers, unsolicited answers and types that start nothing."""
    r = random.Random(seed)
    six = r.random() < 0.4
    client, server = ENDS[6 if six else 4]
    request = r.choice((128, 139, 128) if six else (8, 13, 15, 17, 8))
    answer = {8: 0, 13: 14, 15: 16, 17: 18, 128: 129, 139: 140}[request]
    others = (128, 129, 139, 140, 127, 200, 137, 138, 255, 1, 2, 3, 4, 100) if six else (0, 3, 5, 8, 9, 10, 12, 13, 14, 15, 16, 17, 18, 19, 30, 40)
    ident, out = 1024 + seed % 30000, []
    for _ in range(r.randrange(2, 7)):
        d = r.randrange(2)
        kind = (answer if d else request) if r.random() < 0.7 else r.choice(others)
        src, dst = (client, server) if d == 0 else (server, client)
        out.append((POINTS[d], icmp(src, dst, kind, 0 if r.random() < 0.9 else 1, ident, bad=r.random() < 0.05)))
    return Key(58 if six else 1, client, server, ident, request << 8), out


CONVERSATIONS = {"tcp": tcp_conversation, "sctp": sctp_conversation, "udp": udp_conversation, "icmp": icmp_conversation}
