"""NAT and marks where the way of a packet matters: hairpin, path MTU, one-to-one networks, two uplinks, classes of tc.

                                  ┌ eth1 10.0.2.1 ─── near ─── 1300 bytes ───┐
    client 10.0.1.2 ── eth0 firewall                                         server 10.0.8.2
                                  └ eth2 10.0.9.1 ─── far ───────────────────┘ 10.0.7.2

The server's default route leads to near, its route to 10.0.9.0/24 to far; nobody but the firewall knows the client's network.
"""

import os
import re
import socket
import threading
import time

import pytest

from netns import Lab, Link, Route, Topology
from tests.e2e.firewalls import make

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
TWO_UPLINKS = Topology(
    hosts=("client", "firewall", "near", "far", "server"),
    links=(Link("firewall", "client", "10.0.1.0/24"), Link("firewall", "near", "10.0.2.0/24"), Link("firewall", "far", "10.0.9.0/24"),
           Link("near", "server", "10.0.8.0/24", mtu=1300), Link("far", "server", "10.0.7.0/24")),
    routes=(Route("client", "default", "10.0.1.1"), Route("firewall", "default", "10.0.2.2"), Route("near", "default", "10.0.2.1"),
            Route("far", "default", "10.0.9.1"), Route("far", "10.0.8.0/24", "10.0.7.2"), Route("server", "default", "10.0.8.1"),
            Route("server", "10.0.9.0/24", "10.0.7.1")),
    sysctls={"net.ipv4.icmp_ratelimit": 0},
)
RULES = """
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -i eth0 -p tcp -m tcp --dport 7002 -j MARK --set-xmark 0x2/0xffffffff
-A OUTPUT -p tcp -m tcp --dport 7002 -j MARK --set-xmark 0x2/0xffffffff
-A POSTROUTING -p udp -m udp --dport 7003 -j CLASSIFY --set-class 0001:0003
-A POSTROUTING -p udp -m udp --dport 7004 -j DSCP --set-dscp 0x2e
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -d 10.0.1.1 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.0.1.2:80
-A PREROUTING -d 10.77.0.0/24 -j NETMAP --to 10.0.1.0/24
-A POSTROUTING -s 10.0.1.0/24 -d 10.0.1.2 -p tcp -m tcp --dport 80 -j SNAT --to-source 10.0.1.1
-A POSTROUTING -s 10.0.1.0/24 -p tcp -m tcp --dport 7001 -j NETMAP --to 10.77.0.0/24
-A POSTROUTING -o eth1 -j MASQUERADE
-A POSTROUTING -o eth2 -j MASQUERADE
COMMIT
"""
SERVER = "10.0.8.2"


@pytest.fixture(scope="module", params=["kernel", "nfnetlink", "three queues"])
def lab(request, tmp_path_factory):
    with Lab(TWO_UPLINKS) as lab, make(request.param, lab.firewall, tmp_path_factory.mktemp("paths")) as firewall:
        lab.firewall.ip("rule add fwmark 2 table 102", "route add default via 10.0.9.2 table 102")
        lab.near.ip("route add 10.77.0.0/24 via 10.0.2.1")
        firewall.load(RULES)
        yield lab
        firewall.stop()


def listen(host, address: str, port: int) -> socket.socket:
    own = host.socket(socket.AF_INET, socket.SOCK_STREAM)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    own.bind((address, port))
    own.settimeout(3)
    own.listen()
    return own


def meet(asker, listener, address: str, port: int):
    own = asker.socket(socket.AF_INET, socket.SOCK_STREAM)
    own.settimeout(3)
    own.connect((address, port))
    peer, _ = listener.accept()
    peer.settimeout(5)
    return own, peer


def test_hairpin(lab):
    """A service behind the firewall asked for from its own network by the outside address."""
    with listen(lab.client, "10.0.1.2", 80) as listener:
        own, peer = meet(lab.client, listener, "10.0.1.1", 8080)
        with own, peer:
            assert peer.getpeername()[0] == "10.0.1.1" and own.getpeername() == ("10.0.1.1", 8080)
            own.sendall(b"question")
            assert peer.recv(8, socket.MSG_WAITALL) == b"question"


def test_tracepath_sees_every_hop_and_the_narrow_one(lab):
    text = lab.client.run(["/usr/bin/tracepath", "-n", "-m", "6", SERVER], timeout=60).stdout
    hops = dict.fromkeys(re.findall(r"^\s*\d+:\s+([\d.]+)\s", text, re.M))
    assert list(hops) == ["10.0.1.1", "10.0.2.2", SERVER]
    assert "Resume: pmtu 1300" in text and "reached" in text


def test_bulk_finds_the_path_mtu(lab):
    """Segments too long for the second hop: its ICMP error must reach the client behind NAT."""
    data = os.urandom(2 << 20)
    with listen(lab.server, SERVER, 7000) as listener:
        own, peer = meet(lab.client, listener, SERVER, 7000)
        with own, peer:
            sender = threading.Thread(target=own.sendall, args=(data,), daemon=True)
            sender.start()
            received = b""
            while len(received) < len(data):
                received += peer.recv(1 << 20)
            assert received == data
            sender.join(5)


def test_one_to_one_network(lab):
    with listen(lab.server, SERVER, 7001) as listener:
        own, peer = meet(lab.client, listener, SERVER, 7001)
        with own, peer:
            assert peer.getpeername()[0] == "10.77.0.2"
    with listen(lab.client, "10.0.1.2", 7005) as listener:
        own, peer = meet(lab.server, listener, "10.77.0.2", 7005)
        with own, peer:
            assert peer.getpeername()[0] == SERVER


@pytest.mark.parametrize("asker", ["client", "firewall"])
def test_a_mark_chooses_the_uplink(lab, asker):
    """The same server by two ways: by mark through far, else through near; each way has its own address."""
    for port, seen in ((7002, "10.0.9.1"), (7006, "10.0.2.1")):
        with listen(lab.server, SERVER, port) as listener:
            own, peer = meet(lab.host(asker), listener, SERVER, port)
            with own, peer:
                assert peer.getpeername()[0] == seen
                own.sendall(b"question")
                assert peer.recv(8, socket.MSG_WAITALL) == b"question"


def test_tc_sees_the_class_and_the_dscp(lab):
    """htb: class 3 by CLASSIFY, class 1 by a filter on the DSCP, class 2 for the rest."""
    def tc(command: str) -> str:
        return lab.firewall.run(["/usr/sbin/tc", *command.split()], check=True).stdout

    tc("qdisc replace dev eth1 root handle 1: htb default 2")
    try:
        for number in (1, 2, 3):
            tc(f"class add dev eth1 parent 1: classid 1:{number} htb rate 100mbit")
        tc("filter add dev eth1 parent 1: protocol ip prio 1 u32 match ip dsfield 0xb8 0xfc flowid 1:1")
        with lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            for port in (7003, 7003, 7004, 7004, 7004, 7004):
                own.sendto(b"x", (SERVER, port))
        time.sleep(0.5)
        sent = {int(number): int(count) for number, count in
                re.findall(r"class htb 1:(\d) .*\n\s*Sent \d+ bytes (\d+) pkt", tc("-s class show dev eth1"))}
        assert (sent[3], sent[1]) == (2, 4)
    finally:
        tc("qdisc del dev eth1 root")
