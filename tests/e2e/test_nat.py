"""NAT as programs see it: who connects to whom, from which address, through the kernel's iptables and through `nfqfw run`.

                             10.0.1.2 client --- firewall --- 10.0.2.2 server

The server knows no route back to the client's network, so a source that was not translated gets no answer.
"""

import hashlib
import os
import socket
import threading
import time

import pytest

from netns import DEFAULT, Lab, Topology
from tests.e2e.firewalls import KINDS, make
from tests.e2e.probes import RECVERR

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

RULES = """
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -i eth0 -d {outside} -p tcp -m tcp --dport 8080 -j DNAT --to-destination {server80}
-A PREROUTING -i eth0 -d {outside} -p udp -m udp --dport 5353 -j DNAT --to-destination {server53}
-A PREROUTING -i eth0 -d {vip1} -j DNAT --to-destination {server}
-A PREROUTING -i eth0 -d {vip2} -j DNAT --to-destination {server}
-A PREROUTING -i eth0 -p tcp -m tcp --dport 3128 -j REDIRECT --to-ports 13128
-A OUTPUT -d {vip1} -p tcp -j DNAT --to-destination {server}
-A POSTROUTING -o eth1 -p tcp -m tcp --dport 1000 -j SNAT --to-source {other}
-A POSTROUTING -o eth1 -j MASQUERADE
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i eth0 -m conntrack --ctstate NEW -j ACCEPT
COMMIT
"""
PLACES = {
    4: {"outside": "10.0.1.1", "server": "10.0.2.2", "server80": "10.0.2.2:80", "server53": "10.0.2.2:53", "vip1": "192.0.2.1",
        "vip2": "192.0.2.2", "other": "10.0.2.9", "firewall": "10.0.2.1", "client": "10.0.1.2"},
    6: {"outside": "fd00:1::1", "server": "fd00:2::2", "server80": "[fd00:2::2]:80", "server53": "[fd00:2::2]:53", "vip1": "2001:db8::1",
        "vip2": "2001:db8::2", "other": "fd00:2::9", "firewall": "fd00:2::1", "client": "fd00:1::2"},
}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
ONE_WAY = Topology(DEFAULT.hosts, DEFAULT.links, tuple(route for route in DEFAULT.routes if route.host != "server"))
BULK = bytes(range(256)) * (16 << 10)       # 4 MiB


@pytest.fixture(scope="module", params=KINDS)
def lab(request, tmp_path_factory):
    with Lab(ONE_WAY) as lab, make(request.param, lab.firewall, tmp_path_factory.mktemp("nat")) as firewall:
        for family in (4, 6):               # SNAT to an address that leads to the firewall and is nobody's
            lab.server.ip(f"neighbour replace {PLACES[family]['other']} lladdr {lab.firewall.interfaces['eth1'].mac} dev eth0 nud permanent")
        lab.server.set_sysctl("net.ipv6.icmp.ratelimit", 0)
        lab.server.set_sysctl("net.ipv4.icmp_ratelimit", 0)
        firewall.load(RULES.format(**PLACES[4]), RULES.format(**PLACES[6]))
        yield lab
        firewall.stop()


def listen(host, family: int, address: str, port: int, kind=socket.SOCK_STREAM) -> socket.socket:
    own = host.socket(FAMILIES[family], kind)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == 6:
        own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    own.bind((address, port))
    own.settimeout(2)
    if kind == socket.SOCK_STREAM:
        own.listen()
    return own


def connect(lab, family: int, listener, address: str, port: int, asker="client", source=None):
    """(connection of the asker, the listener's end); the caller closes both."""
    own = lab.host(asker).socket(FAMILIES[family], socket.SOCK_STREAM)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    own.settimeout(2)
    if source:
        own.bind(source)
    own.connect((address, port))
    peer, _ = listener.accept()
    peer.settimeout(10)
    return own, peer


def assert_they_talk(own, peer) -> None:
    own.sendall(b"question")
    assert peer.recv(8, socket.MSG_WAITALL) == b"question"
    peer.sendall(b"answer")
    assert own.recv(6, socket.MSG_WAITALL) == b"answer"


@pytest.mark.parametrize("family", [4, 6])
def test_masquerade(lab, family):
    place = PLACES[family]
    with listen(lab.server, family, place["server"], 81) as listener:
        own, peer = connect(lab, family, listener, place["server"], 81)
        with own, peer:
            assert peer.getpeername()[0] == place["firewall"]
            assert peer.getpeername()[1] == own.getsockname()[1]
            assert_they_talk(own, peer)


@pytest.mark.parametrize("family", [4, 6])
def test_snat(lab, family):
    place = PLACES[family]
    with listen(lab.server, family, place["server"], 1000) as listener:
        own, peer = connect(lab, family, listener, place["server"], 1000)
        with own, peer:
            assert peer.getpeername()[0] == place["other"]
            assert_they_talk(own, peer)


@pytest.mark.parametrize("family", [4, 6])
def test_port_forward(lab, family):
    place = PLACES[family]
    with listen(lab.server, family, place["server"], 80) as listener:
        own, peer = connect(lab, family, listener, place["outside"], 8080)
        with own, peer:
            assert own.getpeername()[:2] == (place["outside"], 8080)
            assert_they_talk(own, peer)


@pytest.mark.parametrize("family", [4, 6])
def test_udp_port_forward_and_its_error(lab, family):
    place = PLACES[family]
    with lab.client.socket(FAMILIES[family], socket.SOCK_DGRAM) as own:
        own.settimeout(2)
        own.setsockopt(*RECVERR[own.family], 1)
        own.connect((place["outside"], 5353))
        with listen(lab.server, family, place["server"], 53, socket.SOCK_DGRAM) as server:
            own.send(b"q")
            data, source = server.recvfrom(16)
            server.sendto(b"answer", source)
            assert own.recv(16) == b"answer"            # from the address that was asked: the socket is connected
        own.send(b"q")                                  # nobody listens now: the ICMP error is translated back
        with pytest.raises(ConnectionRefusedError):
            own.recv(16)


@pytest.mark.parametrize("family", [4, 6])
def test_two_addresses_of_one_server_and_one_client_port(lab, family):
    """After DNAT the two connections look alike but for what NAT does to the source port."""
    place = PLACES[family]
    with listen(lab.server, family, place["server"], 82) as listener:
        first, first_peer = connect(lab, family, listener, place["vip1"], 82, source=(place["client"], 45000))
        second, second_peer = connect(lab, family, listener, place["vip2"], 82, source=(place["client"], 45000))
        with first, first_peer, second, second_peer:
            assert first_peer.getpeername()[:2] != second_peer.getpeername()[:2]
            for _ in range(20):
                assert_they_talk(first, first_peer)
                assert_they_talk(second, second_peer)


@pytest.mark.parametrize("family", [4, 6])
def test_redirect_to_the_firewall(lab, family):
    place = PLACES[family]
    address = "0.0.0.0" if family == 4 else "::"
    with listen(lab.firewall, family, address, 13128) as listener:
        own, peer = connect(lab, family, listener, place["server"], 3128)
        with own, peer:
            assert peer.getsockname()[:2] == (place["outside"], 13128)
            assert_they_talk(own, peer)


@pytest.mark.parametrize("family", [4, 6])
def test_local_dnat_is_rerouted(lab, family):
    place = PLACES[family]
    lab.firewall.ip(f"route replace {place['vip1']} via {PLACES[family]['client']}")
    with listen(lab.server, family, place["server"], 83) as listener:
        own, peer = connect(lab, family, listener, place["vip1"], 83, asker="firewall")
        with own, peer:
            assert_they_talk(own, peer)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("size", [56, 4000])
def test_ping_masqueraded(lab, family, size):
    done = lab.client.run(["ping", "-n", "-c", "1", "-W", "2", "-s", str(size), PLACES[family]["server"]])
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("family", [4, 6])
def test_bulk_both_ways(lab, family):
    """Super-packets are rewritten, checksums and all."""
    place = PLACES[family]
    with listen(lab.server, family, place["server"], 80) as listener:
        own, peer = connect(lab, family, listener, place["outside"], 8080)
        with own, peer:
            own.settimeout(20)
            for sender, receiver in ((own, peer), (peer, own)):
                thread = threading.Thread(target=sender.sendall, args=(BULK,))
                thread.start()
                digest, left = hashlib.sha256(), len(BULK)
                while left:
                    part = receiver.recv(min(left, 1 << 20))
                    assert part
                    digest.update(part)
                    left -= len(part)
                thread.join()
                assert digest.digest() == hashlib.sha256(BULK).digest()


@pytest.mark.parametrize("family", [4, 6])
def test_large_datagram_masqueraded(lab, family):
    place = PLACES[family]
    payload = BULK[:8000]
    with listen(lab.server, family, place["server"], 84, socket.SOCK_DGRAM) as server, \
            lab.client.socket(FAMILIES[family], socket.SOCK_DGRAM) as own:
        own.settimeout(2)
        own.sendto(payload, (place["server"], 84))
        data, source = server.recvfrom(1 << 16)
        assert data == payload and source[0] == place["firewall"]
        server.sendto(payload[::-1], source[:2])
        assert own.recv(1 << 16) == payload[::-1]


@pytest.mark.parametrize("family", [4, 6])
def test_masquerade_ends_with_its_address(lab, family):
    """The connection's address is removed and comes back: the kernel has forgotten the connection by then."""
    place = PLACES[family]
    with listen(lab.server, family, place["server"], 85) as listener:
        own, peer = connect(lab, family, listener, place["server"], 85)
        with own, peer:
            assert_they_talk(own, peer)
            address = f"{place['firewall']}/{24 if family == 4 else 64} dev eth1"
            lab.firewall.ip(f"address del {address}", f"address add {address}{' nodad' * (family == 6)}")
            time.sleep(0.2)
            peer.sendall(b"late")
            own.settimeout(0.5)
            with pytest.raises((TimeoutError, ConnectionResetError)):
                own.recv(4)
