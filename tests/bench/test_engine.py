"""The engine benchmark measures accepted packets of known flows, and says so when it does not."""

import struct

import pytest

from bench.engine import CASES, CLIENT, SERVER, Rig, checksum, ipv4, tcp, udp


def test_packets_are_sound():
    for packet in (udp(False, 70_000), udp(True), tcp(False, 16, 1, 2, 99)):
        assert checksum(packet[:20]) == 0xFFFF and int.from_bytes(packet[2:4]) == len(packet)
    data = tcp(True, 18, 1, 2, 8)
    assert checksum(data[20:] + data[12:20] + struct.pack("!HH", 6, len(data) - 20)) == 0xFFFF      # ~0: a sound sum
    assert udp(False, 64_001)[20:24] == (1025).to_bytes(2) + (1025).to_bytes(2)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_every_case_runs(case):
    rig = Rig(case)
    small = case._replace(flows=min(case.flows, 256))
    rig.open(small)
    assert 10 < rig.measure(small, 1280) < 1_000_000


def test_a_ruleset_that_drops_is_an_error():
    sctp = ipv4(CLIENT, SERVER, 132, bytes(12))             # accepted by no rule of the demo
    with pytest.raises(RuntimeError, match="drops"):
        Rig(CASES[0])._accepted(sctp, False)
