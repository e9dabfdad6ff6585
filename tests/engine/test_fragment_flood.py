"""A million hostile fragments: memory within the limit, honest datagrams of other sources delivered (issue: fragments)."""

import struct

import pytest

from nfqfw import limits
from nfqfw.packets import FORWARD, PacketIn
from tests.engine.support import Firewall
from tests.engine.test_defrag import BY_PORT

HONEST = 50                     # one honest datagram in so many hostile fragments


def fragment(src: int, ident: int, offset: int, more: int, data: bytes) -> PacketIn:
    """An IPv4 UDP fragment; offset in units of 8 bytes."""
    header = struct.pack("!BBHHHBBHI4s", 0x45, 0, 20 + len(data), ident & 0xFFFF, more << 13 | offset, 64, 17, 0, src, b"\x0a\0\2\2")
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return PacketIn(header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:] + data, FORWARD, 2, 3)


def hostile(kind: str, sources: int, n: int) -> PacketIn:
    src = 0xC0000200 + n % sources
    if kind == "never complete":
        return fragment(src, n // sources, 1 + n % 5, 1, b"z" * 64)
    return fragment(src, n // sources // 4, n % 7, 1, b"z" * 40)         # overlaps of all kinds


def honest(n: int) -> list[PacketIn]:
    data = struct.pack("!HHHH", 5, 53, 808, 0) + b"h" * 800
    return [fragment(0x0A000102 + n % 200, n, 0, 1, data[:400]), fragment(0x0A000102 + n % 200, n, 50, 0, data[400:])]


@pytest.mark.parametrize("kind", ["never complete", "overlapping"])
@pytest.mark.parametrize("sources", [1, 10_000])
def test_a_flood_leaves_the_others_alone(kind, sources):
    fw = Firewall(BY_PORT)
    per_round, rounds = 50_000, 5                       # 250,000 of each of four kinds: a million
    sent = highest = 0
    for round_ in range(rounds):
        packets, good = [], 0
        for n in range(per_round):
            packets.append(hostile(kind, sources, round_ * per_round + n))
            if n % HONEST == 0:
                packets += honest(round_ * per_round + n)
                good += 1
        fw.engine.drive(packets, 1, 64, fw.now, 50_000)          # 64 packets per 50 us: over a million a second
        fw.now += len(packets) // 64 * 50_000
        sent += good
        held = fw.engine.stats()["fragments"]
        highest = max(highest, held["bytes"])
        assert held["bytes"] <= limits.FRAGMENT_BYTES and held["held"] <= limits.QUEUE_LENGTH // 8
    assert fw.engine.stats()["fragments"]["reassembled"] >= 0.99 * sent
    assert highest > 0
    fw.now += 31 * 10**9
    for _ in range(200):
        fw.engine.idle(fw.now)
        fw.engine.take_released()
    assert fw.engine.stats()["fragments"]["held"] == 0 == fw.engine.stats()["fragments"]["bytes"]
