"""Every sequence of up to three fragments over five slots has the kernel's outcome (recorded by record.py), IPv4 and IPv6."""

import json
import lzma
import socket

import pytest

from nfqfw.packets import FORWARD, PacketIn
from tests.engine.support import Firewall
from tests.fragments import sequences as q
from tests.fragments.record import FILE, RULES

RECORDED = json.loads(lzma.decompress(FILE.read_bytes()))
ADDRESSES = {4: ("10.0.1.2", "10.0.2.2"), 6: ("fd00:1::2", "fd00:2::2")}


def ours(fw, family: int, number: int, sequence, src: bytes, dst: bytes) -> str:
    """What would leave after this sequence: packets accepted at once, and held ones as they are released."""
    make = q.packet4 if family == 4 else q.packet6
    sent, seen = {}, []
    for place, which in enumerate(sequence):
        packet = make(number, place, q.FRAGMENTS[which], src, dst)
        sent[place + 1] = packet
        decision = fw.engine.one(PacketIn(packet, FORWARD, 2, 3, id=place + 1), fw.now, fw.now)
        for ident, verdict, data, _, _ in fw.engine.take_released():
            if verdict == 1:
                seen.append(q.describe(family, data or sent[ident]))
        if decision.verdict == 1:
            seen.append(q.describe(family, decision.data or packet))
    return " ".join(seen)


@pytest.mark.parametrize("family", [4, 6])
def test_every_sequence_has_the_kernels_outcome(family):
    fw = Firewall(RULES, RULES)
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    src, dst = (socket.inet_pton(kind, address) for address in ADDRESSES[family])
    words, recorded = RECORDED["words"], RECORDED[f"v{family}"]
    wrong = []
    for number, sequence in enumerate(q.sequences()):
        if number % 100 == 0:
            fw.now += 61 * 10**9                    # what a hundred sequences left unfinished is over: no limit is met
            for _ in range(5):
                fw.engine.idle(fw.now)
            fw.engine.take_released()
        outcome = ours(fw, family, number, sequence, src, dst)
        if outcome != words[recorded[number]]:
            wrong.append(([q.FRAGMENTS[w] for w in sequence], words[recorded[number]], outcome))
    assert not wrong, f"{len(wrong)} of {len(recorded)} differ; first: {wrong[:5]}"
    assert len(recorded) == 30 + 900 + 27000
