"""The facts on which several queues rest (docs/queues.md), asked of the running kernel: see order.py."""

import contextlib
import os
import socket

import pytest

from nfqfw import attach
from tests.queue import order
from tests.tinyqueue import TinyQueue

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
PACKETS = 3000
CROSSINGS = {                   # name: hooks diverted, first, second, destinations (None: over lo), does the queue change?
    "forwarded": (("PREROUTING", "FORWARD"), order.PREROUTING, order.FORWARD, (order.SERVER,), False),
    "translated": (("PREROUTING", "FORWARD"), order.PREROUTING, order.FORWARD, order.VIPS, True),
    "to the way out": (("FORWARD", "POSTROUTING"), order.FORWARD, order.POSTROUTING, (order.SERVER,), False),
    "on lo": (("OUTPUT", "PREROUTING"), order.OUTPUT, order.PREROUTING, None, False),
}


@pytest.fixture
def lab():
    from netns import Lab

    with Lab() as lab:
        yield lab


@pytest.mark.parametrize("name", CROSSINGS)
def test_two_queues_a_packet_waits_at_its_next_crossing_in_order_when_send_returns(lab, name):
    hooks, first, second, destinations, moves = CROSSINGS[name]
    feed = order.looped(lab.firewall, PACKETS) if destinations is None else order.forwarded(lab, PACKETS, destinations)
    found = order.facts(order.read_all(lab.firewall, hooks, feed), first, second)
    assert found._replace(changed_queue=0) == order.Facts(PACKETS, 0, 0, 0, 0)
    assert (found.changed_queue > 0) == moves


class Queues:
    """Four queues at PREROUTING of the firewall."""

    def __init__(self, lab, stack):
        self.lab = lab
        with lab.firewall.entered():
            self.queues = [stack.enter_context(TinyQueue(number)) for number in range(4)]
            stack.callback(attach.attach(("PREROUTING",), 0, 4).detach)

    def of(self, packets: list[bytes], family: int = 4) -> set[int]:
        """Send these from the client; the queues in which they wait."""
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        with self.lab.client.socket(kind, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            for packet in packets:
                dst = socket.inet_ntop(kind, packet[16:20] if family == 4 else packet[24:40])
                raw.sendto(packet, (dst, 0))
        found = set()
        for number, queue in enumerate(self.queues):
            with contextlib.suppress(TimeoutError):
                while True:
                    queue.next(0.05)
                    found.add(number)
        return found


@pytest.fixture
def queues(lab):
    with contextlib.ExitStack() as stack:
        yield Queues(lab, stack)


def test_ports_and_direction_do_not_choose_the_queue_addresses_do(queues):
    there = [order.datagram("10.7.0.1", order.SERVER, port, number) for number, port in enumerate(range(1000, 1040))]
    back = [order.datagram(order.SERVER, "10.7.0.1", port, number) for number, port in enumerate(range(1000, 1040))]
    assert len(queues.of(there + back)) == 1
    assert len(queues.of([order.datagram(f"10.7.1.{n}", order.SERVER, 1000, n) for n in range(64)])) == 4


def test_all_fragments_of_a_datagram_wait_in_one_queue(queues):
    from scapy.layers.inet import IP, UDP, fragment
    from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6

    for number in range(8):
        whole = IP(src=f"10.7.2.{number}", dst=order.SERVER, id=number + 1) / UDP(sport=5, dport=6) / bytes(4000)
        assert len(queues.of([bytes(piece) for piece in fragment(whole, 1400)])) == 1
        whole = IPv6(src=f"fd00:7::{number}", dst="fd00:2::2") / IPv6ExtHdrFragment(id=number) / UDP(sport=5, dport=6) / bytes(4000)
        assert len(queues.of([bytes(piece) for piece in fragment6(whole, 1400)], 6)) == 1


def test_an_icmp_error_may_wait_in_another_queue_than_the_packets_it_is_about(queues):
    from scapy.layers.inet import ICMP, IP

    found = set()
    for number in range(16):
        flow = order.datagram(f"10.7.3.{number}", order.SERVER, 1000, number)
        error = bytes(IP(src="10.0.1.9", dst=order.SERVER) / ICMP(type=3, code=1) / flow[:28])
        found.add(queues.of([flow]) == queues.of([error]))
    assert found == {True, False}
