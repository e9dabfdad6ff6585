"""Two queues, each with a thread of its own, under load: every answer comes from whom was asked, counters are exact, nothing leaks.

             10.0.1.100 … client --- firewall --- 10.0.2.2 server, known outside as 192.0.2.1, .2, .3

Clients use one port for all three addresses: between the hooks their packets look alike.  The server knows no route to them.
Many addresses, so that both queues have work, and DNAT moves packets from one to the other.  The kernel's iptables is asked first.
"""

import os
import selectors
import socket
import threading
import time

import pytest

from netns import Lab
from tests.e2e.firewalls import KernelFirewall, NfqfwFirewall
from tests.e2e.test_nat import ONE_WAY

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

CLIENTS, ROUNDS, BURST = 60, 8, 3
VIPS = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
FLOWS = CLIENTS * len(VIPS)
SERVER = "10.0.2.2"
ECHO, CLOSED = 7, 9                     # ports of the server
RULES = """*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -d 192.0.2.0/24 -j DNAT --to-destination 10.0.2.2
-A POSTROUTING -o eth1 -j MASQUERADE
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -p udp -m conntrack --ctstate NEW -j ACCEPT
-A FORWARD -p udp -m conntrack --ctstate ESTABLISHED --ctdir ORIGINAL -j ACCEPT
-A FORWARD -p udp -m conntrack --ctstate ESTABLISHED --ctdir REPLY -j ACCEPT
-A FORWARD -p icmp -m conntrack --ctstate RELATED -j ACCEPT
-A FORWARD -p tcp -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT
COMMIT
"""


class Echo:
    """Sends back what comes to a UDP port of the server, and the first bytes of a TCP connection."""

    def __init__(self, host):
        self._udp = host.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)          # SO_RCVBUFFORCE
        self._udp.bind((SERVER, ECHO))
        self._tcp = host.socket()
        self._tcp.bind((SERVER, ECHO))
        self._tcp.listen(CLIENTS * 3)
        for serve in (self._datagrams, self._connections):
            threading.Thread(target=serve, daemon=True).start()

    def _datagrams(self) -> None:
        while True:
            data, sender = self._udp.recvfrom(1 << 16)
            if data == b"end":
                return
            self._udp.sendto(data, sender)

    def _connections(self) -> None:
        while True:
            try:
                peer, _ = self._tcp.accept()
            except OSError:
                return
            with peer:
                peer.sendall(peer.recv(100))

    def close(self) -> None:
        self._udp.sendto(b"end", (SERVER, ECHO))
        self._tcp.shutdown(socket.SHUT_RDWR)


def flows(lab, port: int) -> dict[socket.socket, bytes]:
    """A socket per client and address of the server, all of one client's with the same port: socket -> its name."""
    found = {}
    for client in range(CLIENTS):
        for vip in VIPS:
            own = lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM)
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            own.bind((f"10.0.1.{100 + client}", 4000))
            own.connect((vip, port))
            found[own] = f"{client} to {vip}".encode()
    return found


def exchange(sockets: dict[socket.socket, bytes], payloads: list[bytes]) -> None:
    """Each flow sends these behind its name; a connected socket takes answers of its own peer only.  All must come, in order."""
    missing = {own: [name + payload for payload in payloads] for own, name in sockets.items()}
    for n in range(len(payloads)):
        for own, name in sockets.items():
            own.send(name + payloads[n])
    with selectors.DefaultSelector() as ready:
        for own in sockets:
            ready.register(own, selectors.EVENT_READ)
        deadline = time.monotonic() + 10
        while any(missing.values()) and time.monotonic() < deadline:
            for key, _ in ready.select(0.2):
                data = key.fileobj.recv(1 << 16)
                assert missing[key.fileobj] and data == missing[key.fileobj].pop(0), data[:40]
    assert not any(missing.values()), sum(map(len, missing.values()))


def errors(sockets: dict[socket.socket, bytes]) -> int:
    """How many of these flows hear that nobody listens."""
    for own in sockets:
        own.send(b"anybody?")
    heard = 0
    for own in sockets:
        own.settimeout(3)
        with pytest.raises(ConnectionRefusedError):
            own.recv(100)
        heard += 1
    return heard


def connect_all(lab) -> None:
    """A TCP connection per client and address, all of one client's from the same port."""
    for vip in VIPS:
        opened = []
        for client in range(CLIENTS):
            own = lab.client.socket()
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            own.bind((f"10.0.1.{100 + client}", 4001))
            own.settimeout(5)
            own.connect((vip, ECHO))
            own.sendall(f"{client} {vip}".encode())
            opened.append(own)
        for client, own in enumerate(opened):
            with own:
                assert own.recv(100) == f"{client} {vip}".encode()


def load(lab) -> None:
    lab.client.ip(*(f"address add 10.0.1.{100 + client}/24 dev eth0" for client in range(CLIENTS)))
    lab.firewall.ip(*(f"neighbour replace 10.0.1.{100 + client} lladdr {lab.client.interfaces['eth0'].mac} dev eth0 nud permanent"
                      for client in range(CLIENTS)))
    lab.server.set_sysctl("net.ipv4.icmp_ratelimit", 0)
    lab.server.set_sysctl("net.ipv4.icmp_msgs_per_sec", 100_000)
    lab.server.set_sysctl("net.ipv4.icmp_msgs_burst", 100_000)
    echo = Echo(lab.server)
    own = flows(lab, ECHO)
    exchange(own, [b"first"])
    for number in range(ROUNDS):
        exchange(own, [bytes((number, n)) for n in range(BURST)])
    exchange(own, [b"x" * 4000])        # three fragments each way
    refused = flows(lab, CLOSED)
    assert errors(refused) == FLOWS
    connect_all(lab)
    echo.close()
    for one in (*own, *refused):
        one.close()


@pytest.mark.parametrize("kind", ["kernel", "two queues", "two queues, exact"])
def test_answers_errors_and_fragments_with_two_queues(kind, tmp_path):
    with Lab(ONE_WAY) as lab:
        options = ("--queues", "2", *(("--exact",) if "exact" in kind else ()))
        firewall = KernelFirewall(lab.firewall, tmp_path) if kind == "kernel" else NfqfwFirewall(lab.firewall, tmp_path, *options)
        with firewall:
            firewall.load(RULES)
            load(lab)
            if kind == "kernel":
                counters = firewall.stop()
            else:
                time.sleep(0.1)         # threads that sleep are woken for what the kernel may have refused
                totals = firewall.totals()
                counters = firewall.counters(totals)
    packets = {position: counters[4, "filter", "FORWARD", position][0] for position in range(6)}
    exchanged = FLOWS * (1 + ROUNDS * BURST + 1)
    assert packets[1] == 2 * FLOWS                      # those to the echo port and those to the closed one
    assert packets[2] == exchanged - FLOWS
    assert packets[3] == exchanged
    assert packets[4] == FLOWS
    assert packets[5] >= FLOWS * 8                      # three to open, one each way with data, four to close, acknowledgements
    assert packets[0] == 0
    assert counters[4, "nat", "PREROUTING", 1][0] == counters[4, "nat", "POSTROUTING", 1][0] == 3 * FLOWS
    if kind != "kernel":
        stats = totals["stats"]
        assert stats["drops"] == {} and stats["in_flight"] == 0
        assert stats["refused_by_kernel"] < 10          # listener reports to nobody, when the kernel likes
        assert stats["fragments"]["held"] == 0 and stats["fragments"]["failed"] == 0
        assert stats["transport"]["errors"] == {} and stats["transport"]["verdicts_lost"] == 0
        assert len([line for line in totals["connections"] if "udp" in line]) == 2 * FLOWS
