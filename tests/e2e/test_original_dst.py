"""SO_ORIGINAL_DST behind REDIRECT and DNAT to the firewall itself: what transparent proxies ask, through the kernel and nfqfw."""

import os
import socket
import struct
import time

import pytest

from netns import Lab
from tests.e2e.firewalls import make

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
SO_ORIGINAL_DST, SOL_IPV6 = 80, 41          # the same number for both families
RULES = """
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -i eth0 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 13128
-A PREROUTING -i eth0 -p tcp -m tcp --dport 81 -j DNAT --to-destination {own}
-A OUTPUT -p tcp -m tcp --dport 82 -j REDIRECT --to-ports 13128
COMMIT
"""
OWN = {4: "10.0.2.1:13128", 6: "[fd00:2::1]:13128"}
SERVER = {4: "10.0.2.2", 6: "fd00:2::2"}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


@pytest.fixture(scope="module", params=["kernel", "nfnetlink", "three queues"])
def lab(request, tmp_path_factory):
    with Lab() as lab, make(request.param, lab.firewall, tmp_path_factory.mktemp("dst")) as firewall:
        firewall.load(RULES.format(own=OWN[4]), RULES.format(own=OWN[6]))
        lab.kind = request.param
        yield lab
        firewall.stop()
        if request.param != "kernel":
            assert entries(lab) == 0, "entries stay in the kernel's table"


def entries(lab) -> int:
    """Connections in the kernel's table of the firewall's namespace."""
    text = lab.firewall.run(["/usr/sbin/conntrack", "-L"], check=False).stdout
    return len(text.splitlines())


def original(peer: socket.socket, family: int) -> tuple[str, int]:
    if family == 4:
        raw = peer.getsockopt(socket.IPPROTO_IP, SO_ORIGINAL_DST, 16)
        return socket.inet_ntop(socket.AF_INET, raw[4:8]), struct.unpack(">H", raw[2:4])[0]
    raw = peer.getsockopt(SOL_IPV6, SO_ORIGINAL_DST, 28)
    return socket.inet_ntop(socket.AF_INET6, raw[8:24]), struct.unpack(">H", raw[2:4])[0]


def listener_of(lab, family: int) -> socket.socket:
    own = lab.firewall.socket(FAMILIES[family], socket.SOCK_STREAM)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == 6:
        own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    own.bind(("::" if family == 6 else "0.0.0.0", 13128))
    own.settimeout(3)
    own.listen()
    return own


@pytest.mark.parametrize("asker, port", [("client", 80), ("client", 81), ("firewall", 82)])
@pytest.mark.parametrize("family", [4, 6])
def test_the_proxy_learns_where_its_client_meant_to_go(lab, family, asker, port):
    with listener_of(lab, family) as listener:
        for _ in range(20):                 # the answer is there whenever the connection is: no race to win
            with lab.host(asker).socket(FAMILIES[family], socket.SOCK_STREAM) as own:
                own.settimeout(3)
                own.connect((SERVER[family], port))
                peer, _ = listener.accept()
                with peer:
                    assert original(peer, family) == (SERVER[family], port)


def test_entries_go_with_their_connections(lab):
    if lab.kind == "kernel":
        pytest.skip("the kernel's own entries wait for their time-outs")
    with listener_of(lab, 4) as listener, lab.client.socket(FAMILIES[4], socket.SOCK_STREAM) as own:
        own.settimeout(3)
        own.connect((SERVER[4], 80))
        peer, _ = listener.accept()
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        before = entries(lab)
        assert before
        own.close()                         # RST: our entry lives 10 more seconds
        peer.close()
    deadline = time.monotonic() + 40
    while entries(lab) >= before and time.monotonic() < deadline:
        time.sleep(1)
    assert entries(lab) < before
