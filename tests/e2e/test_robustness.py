"""What may happen to a running firewall: others flush nftables, it is killed under load, interfaces come and go, floods."""

import os
import re
import signal
import socket
import threading
import time

import pytest

from netns import Lab, Link
from tests.e2e.firewalls import NfqfwFirewall
from tests.e2e.probes import ANSWERED, CONNECTED, SILENCE, listening, ping, tcp

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

ALLOWED, FORBIDDEN = 7000, 7001
RULES = f"""
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -p icmp -j ACCEPT
-A FORWARD -i late+ -p tcp -m tcp --dport 80 -j ACCEPT
-A FORWARD -p udp -m udp --dport {ALLOWED} -j ACCEPT
COMMIT
"""


@pytest.fixture
def lab():
    with Lab() as lab:
        yield lab


@pytest.fixture
def firewall(lab, tmp_path):
    with NfqfwFirewall(lab.firewall, tmp_path) as firewall:
        yield firewall


class Sender:
    """A thread that sends numbered datagrams to both ports of the server, every millisecond, until the block ends."""

    def __init__(self, lab):
        self.lab = lab
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.receivers = {port: self.lab.server.socket(socket.AF_INET, socket.SOCK_DGRAM) for port in (ALLOWED, FORBIDDEN)}
        for port, receiver in self.receivers.items():
            receiver.bind((self.lab.server.address(), port))
            receiver.setblocking(False)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()
        for receiver in self.receivers.values():
            receiver.close()

    def _run(self):
        number = 0
        with self.lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            while not self._end.wait(0.001):
                number += 1
                for port in (FORBIDDEN, ALLOWED):
                    own.sendto(number.to_bytes(4, "big"), (self.lab.server.address(), port))

    def received(self, port: int) -> int:
        """Datagrams that arrived since the last question."""
        count = 0
        try:
            while self.receivers[port].recv(16):
                count += 1
        except BlockingIOError:
            return count


def test_nothing_forbidden_passes_while_it_is_killed_and_started_again(lab, firewall):
    firewall.load(RULES)
    with Sender(lab) as sender:
        for _ in range(3):
            time.sleep(0.2)
            assert sender.received(ALLOWED) > 50
            firewall.kill()
            time.sleep(0.1)
            sender.received(ALLOWED)
            time.sleep(0.1)
            assert sender.received(ALLOWED) == 0        # nobody judges: everything is dropped
            firewall.load(RULES)
        time.sleep(0.2)
        assert sender.received(ALLOWED) > 50
        assert sender.received(FORBIDDEN) == 0
    firewall.stop()


def test_flush_ruleset_is_repaired_and_told(lab, firewall):
    firewall.load(RULES)
    with Sender(lab) as sender:
        time.sleep(0.1)
        assert sender.received(FORBIDDEN) == 0
        for _ in range(5):
            lab.firewall.run(["nft", "flush ruleset"], check=True)
            time.sleep(0.1)
        leaked = sender.received(FORBIDDEN)
        assert leaked < 100                             # of 500 sent: what crossed before each repair
        time.sleep(0.2)
        assert sender.received(FORBIDDEN) == 0
        assert sender.received(ALLOWED) > 50
    firewall.stop()
    assert "another program removed our diversion" in (firewall.directory / "stderr").read_text()


def test_interfaces_that_come_later(lab, firewall):
    """A rule names an interface that does not exist yet; the server's port is open only to it."""
    firewall.load(RULES)
    with listening(lab.server, [80]):
        assert tcp(lab.client, lab.server.address(), 80) == SILENCE
        lab.add_host("guest")
        lab.connect([Link("firewall", "guest", "10.0.3.0/24")])
        lab.guest.ip("route add 0.0.0.0/0 via 10.0.3.1")
        lab.firewall.ip("link set eth2 down", "link set eth2 name late0", "link set late0 up",
                        f"neighbour replace 10.0.3.2 lladdr {lab.guest.interfaces['eth0'].mac} dev late0 nud permanent")
        lab.server.ip("route replace 10.0.3.0/24 via 10.0.2.1")
        time.sleep(0.2)
        assert tcp(lab.guest, lab.server.address(), 80) == CONNECTED
        lab.firewall.ip("link set late0 down", "link set late0 name other0", "link set other0 up",
                        f"neighbour replace 10.0.3.2 lladdr {lab.guest.interfaces['eth0'].mac} dev other0 nud permanent")
        time.sleep(0.2)
        assert tcp(lab.guest, lab.server.address(), 80) == SILENCE
    firewall.stop()


def test_a_flood_is_accounted_for(lab, firewall):
    """sent = judged + lost at the queue + lost at the socket, and what is judged is delivered."""
    sent = 60_000
    firewall.load(RULES)
    before = udp_arrived(lab.server)
    with lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:      # not connected: the server's ICMP errors are not its errors
        for _ in range(sent):
            own.sendto(bytes(100), (lab.server.address(), ALLOWED))
    deadline = time.monotonic() + 5
    while waiting(lab.firewall) and time.monotonic() < deadline:
        time.sleep(0.05)
    [line] = lab.firewall.run(["cat", "/proc/net/netfilter/nfnetlink_queue"], check=True).stdout.splitlines()
    queue_dropped, user_dropped = map(int, line.split()[5:7])
    counters = firewall.stop()
    judged = counters[4, "filter", "FORWARD", 4][0] + counters[4, "filter", "FORWARD", 1][0]
    arrived = udp_arrived(lab.server) - before
    assert sent == arrived + queue_dropped + user_dropped
    assert arrived <= judged <= 2 * arrived             # the server's ICMP errors cross FORWARD too, as RELATED
    assert queue_dropped + user_dropped < sent / 10


def udp_arrived(host) -> int:
    """UDP datagrams that reached the host, whatever became of them."""
    lines = [line.split() for line in host.run(["cat", "/proc/net/snmp"], check=True).stdout.splitlines() if line.startswith("Udp:")]
    values = dict(zip(lines[0], lines[1]))
    return int(values["InDatagrams"]) + int(values["NoPorts"]) + int(values["InErrors"])


def waiting(host) -> int:
    return int(re.split(r"\s+", host.run(["cat", "/proc/net/netfilter/nfnetlink_queue"]).stdout.strip())[2])


def test_a_stopped_process_loses_nothing_that_fits_the_queue(lab, firewall):
    """SIGSTOP for half a second with 20,000 packets on their way: all are judged afterwards."""
    sent = 20_000
    firewall.load(RULES)
    before = udp_arrived(lab.server)
    firewall.process.send_signal(signal.SIGSTOP)
    with lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        for _ in range(sent):
            own.sendto(bytes(1400), (lab.server.address(), ALLOWED))
    firewall.process.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + 10
    while (waiting(lab.firewall) or udp_arrived(lab.server) - before < sent) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert udp_arrived(lab.server) - before == sent
    assert ping(lab.client, lab.server.address()) == ANSWERED
    firewall.stop()
