"""Counters of `nfqfw run` against arithmetic: what was sent is what each rule counted, packets and bytes."""

import os
import socket

import pytest

from netns import Lab
from tests.e2e.firewalls import KINDS, make
from tests.e2e.probes import listening

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

RULES = """
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:counted - [0:0]
-A FORWARD -p udp -m udp --dport 5000:5999 -j counted
-A FORWARD -p udp -m udp --dport 5001
-A FORWARD -p udp -m udp --dport 5001 -j ACCEPT
-A counted -m conntrack --ctstate NEW
-A counted -m conntrack --ctstate ESTABLISHED
-A counted -p udp -m udp --dport 5002 -j DROP
-A counted -p udp -m udp --dport 5003 -j ACCEPT
COMMIT
"""
SENT = {5000: 7, 5001: 50, 5002: 11, 5003: 300, 6000: 5}      # port: datagrams
PAYLOAD = 100                                               # bytes of each
HEADERS = {4: 28, 6: 48}                                    # IP and UDP


def send(host, address: str, family: int) -> None:
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with host.socket(kind, socket.SOCK_DGRAM) as own:
        for port, count in SENT.items():
            for _ in range(count):
                own.sendto(bytes(PAYLOAD), (address, port))


@pytest.mark.parametrize("kind", KINDS)
def test_counters_are_what_was_sent(kind, tmp_path):
    with Lab() as lab, make(kind, lab.firewall, tmp_path) as firewall, listening(lab.server, udp_ports=SENT):
        firewall.load(RULES, RULES)
        for family in (4, 6):
            send(lab.client, lab.server.address(family), family)
        counters = firewall.stop()
    chain = sum(count for port, count in SENT.items() if port < 6000)
    expected = {("FORWARD", 1): chain, ("FORWARD", 2): SENT[5001], ("FORWARD", 3): SENT[5001], ("FORWARD", 0): SENT[5000] + SENT[6000],
                ("counted", 1): chain, ("counted", 2): 0, ("counted", 3): SENT[5002], ("counted", 4): SENT[5003]}
    for family in (4, 6):
        size = PAYLOAD + HEADERS[family]
        seen = {(chain, position): value for (own, _, chain, position), value in counters.items()
                if own == family and chain in ("FORWARD", "counted")}
        assert seen == {place: (count, count * size) for place, count in expected.items()}
