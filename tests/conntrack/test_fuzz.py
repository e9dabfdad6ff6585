"""Invariant: no bytes whatever make the tracker fail, leak an entry, or say anything but one of five classes."""

import os
import random

import pytest

from nfqfw._conntrack import ConntrackTable
from tests.conntrack.packets import icmp, icmp_error, ip
from tests.conntrack.sequences import CONVERSATIONS, ENDS

ROUNDS = int(os.environ.get("NFQFW_FUZZ", "300"))
CLASSES = {"NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED"}
SECOND = 10**9


def mutated(r: random.Random, data: bytes) -> bytes:
    """The packet cut, stretched, or with some bits turned; header checksums are not repaired, but the tracker may not care."""
    out = bytearray(data)
    for _ in range(r.randrange(4)):
        at = r.randrange(len(out)) if r.random() < 0.3 else r.randrange(20, max(len(out), 21)) % len(out)
        out[at] = r.choice((0, 1, 255, r.randrange(256), out[at] ^ (1 << r.randrange(8))))
    roll = r.random()
    if roll < 0.15:
        del out[r.randrange(1, len(out) + 1):]
    elif roll < 0.2:
        out += r.randbytes(r.randrange(64))
    return bytes(out) or b"\x45"


@pytest.mark.parametrize("seed", range(4))
def test_nothing_breaks_it(seed):
    r = random.Random(seed)
    table = ConntrackTable(200, 2000)
    table.set("nf_conntrack_acct", 1)
    table.listen(1 << 16)
    now, held = 1000 * SECOND, []
    for _ in range(ROUNDS):
        name = r.choice(("tcp", "sctp", "udp", "icmp", "error", "other"))
        if name in CONVERSATIONS:
            packets = [data for _, data in CONVERSATIONS[name](r.randrange(1 << 16))[1]]
        else:
            six = r.random() < 0.5
            client, server = ENDS[6 if six else 4]
            inner = r.choice(CONVERSATIONS[r.choice(("tcp", "udp", "icmp"))](r.randrange(1 << 16))[1])[1]
            packets = [icmp_error(server, client, r.choice((1, 2, 3, 4, 5, 11, 12, 137)), r.randrange(6), inner[: r.randrange(len(inner))])]
            packets += [ip(client, server, r.randrange(256), r.randbytes(r.randrange(60))), icmp(client, server, r.randrange(256))]
        for data in packets:
            now += r.randrange(SECOND)
            bytes_ = mutated(r, data) if r.random() < 0.5 else data
            klass, _, number, reason = table.process(
                bytes_, now, hook=r.randrange(5), confirm=r.random() < 0.8, local=r.random() < 0.2, skbinfo=r.choice((0, 1, 1)),
                zone=r.choice((0, 0, 0, 7)), zone_dir=r.randrange(3), own=r.random() < 0.05, family=r.choice((None, None, None, 2, 10)),
                total=None if r.random() < 0.9 else len(bytes_) + r.randrange(100))
            assert klass in CLASSES and reason in (0, 5, 6, 7)
            assert (number != 0) == (klass in ("NEW", "ESTABLISHED", "RELATED")) or reason
            held.append(number)
            if r.random() < 0.3 and held:
                table.release(held.pop(r.randrange(len(held))))
        if r.random() < 0.1:
            table.expire(now, r.randrange(400))
        if r.random() < 0.02:
            table.events()
        assert table.count <= 201
    stats = table.stats()
    assert stats["created"] - stats["deleted"] == table.count
    table.expire(now)
    assert table.count == len(table.list(unconfirmed=True, now_ns=now))
    table.expire(now + 10**6 * SECOND)
    assert table.count == 0, "nothing is kept for ever"
