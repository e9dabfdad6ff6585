"""Whole-path costs: bursts send what they should, backlogs are whole, break-even is where the lines cross."""

import os
import socket

import pytest

from bench import rulesets
from bench.burst import MMSGHDR, Burst
from bench.growth import accepting, endless
from bench.path import Fresh, Known, address, datagram, present, standing
from bench.rules import break_even
from bench.rulesets import Header
from bench.wire import checksum
from netns import Lab

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(autouse=True)
def same_cpus():
    """The benchmarks pin their process."""
    before = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, before)


def test_break_even_is_where_the_lines_cross():
    assert break_even([1, 100, 1000], [3, 5, 23], [8, 8, 8]) == 100 + 900 * 3 / 18
    assert break_even([1, 100], [3, 5], [8, 8]) is None
    assert break_even([1, 100], [9, 99], [8, 8]) == 0


def test_datagrams_are_what_the_header_says():
    data = datagram(Header(17, 0x0A000102, 0x0A000202, 1025, 9000))
    assert data[9] == 17 and data[12:20] == bytes([10, 0, 1, 2, 10, 0, 2, 2]) and data[20:24] == (1025).to_bytes(2) + (9000).to_bytes(2)
    assert len(data) == int.from_bytes(data[2:4]) == 20 + int.from_bytes(data[24:26])
    assert checksum(data[:20]) != 0                         # left to the kernel
    assert address("10.0.1.2") == 0x0A000102 and MMSGHDR.size == 64


def test_hits_of_a_set_match_a_rule_and_can_be_routed():
    made = accepting(rulesets.classbench("fw", 200))
    headers = endless(made, "hits")
    for _ in range(100):
        header = next(headers)
        assert any(rule.matches(header) for rule in made.rules) and 0 < header.destination >> 24 < 224
    assert next(endless(made._replace(rules=[rule for rule in made.rules if rule.proto == 6]), "hits"), None) is None


@pytest.mark.netns
@needs_root
def test_a_burst_arrives_whole_and_in_order():
    with Lab() as lab, lab.server.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink, \
            lab.client.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        sink.bind((lab.server.address(), 9000))
        sink.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)    # SO_RCVBUFFORCE
        sink.settimeout(5)
        ends = address(lab.client.address()), address(lab.server.address())
        Burst(raw, [datagram(Header(17, *ends, 2000 + i, 9000)) for i in range(2500)], lab.server.address())()
        assert [sink.recvfrom(100)[1][1] for _ in range(2500)] == list(range(2000, 4500))


@pytest.mark.netns
@needs_root
@pytest.mark.parametrize("contender", ["none", "bare", "legacy", "nft", "nfqfw"])
def test_costs_of_both_kinds_of_traffic(contender):
    """Every packet is counted at the end of its path (`cost` raises otherwise), by whatever judges it."""
    if not present(contender):
        pytest.skip("its tool is not installed")
    with standing(contender, rulesets.ports(40).text(first=(rulesets.ESTABLISHED,))) as stand:
        for traffic in (Fresh(stand.bench), Known(stand.bench)):
            cost = stand.cost(traffic, 640)
            assert 0.3 < cost.sender < 1000 and (cost.subject > 0.3) == (contender in ("bare", "nfqfw"))
            traffic.close()


@pytest.mark.netns
@needs_root
def test_a_ruleset_that_drops_what_is_measured_is_an_error():
    with standing("nfqfw", rulesets.filter_table(["-p udp -j DROP"])) as stand:
        with pytest.raises(RuntimeError, match="0 of 640 packets passed"):
            stand.cost(Fresh(stand.bench), 640)
