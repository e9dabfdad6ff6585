"""Many connections at once while the rules change: none breaks, none is judged by half a ruleset.

Connections are short and long, of 1 byte to 300 KB, NATed where the case says so; meanwhile rules are inserted, added to tables that
were empty (which changes the hooks diverted) and removed, by the commands a user gives.
"""

import os
import random
import socket
import sys
import threading

import pytest

from netns import Lab
from tests.e2e.firewalls import ROOT, make
from tests.e2e.test_nat import ONE_WAY, PLACES, RULES as NAT_RULES
from tests.e2e.test_programs import RULES4, RULES6

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

CLIENTS, CONNECTIONS = 16, 40           # at once; each
SIZES = (1, 100, 10_000, 300_000)       # bytes asked for
CHANGES = (
    "iptables -I FORWARD 1 -p tcp --dport 9 -j DROP",
    "iptables -t mangle -A PREROUTING -p tcp --dport 9 -j MARK --set-mark 1",
    "iptables -t raw -A PREROUTING -p udp -j ACCEPT",
    "iptables -t mangle -F",
    "iptables -t raw -F",
    "iptables -D FORWARD 1",
)
CASES = {                               # kind of firewall, NAT or not
    "nat": ("nfnetlink", True), "nat, exact": ("exact", True), "filter": ("nfnetlink", False), "filter, three queues": ("three queues", False),
    "nat, three queues": ("three queues", True),
}


class SizeServer:
    """Answers a 4-byte big-endian number with as many bytes."""

    def __init__(self, host, address: str, port: int):
        self._listener = host.socket()
        self._listener.bind((address, port))
        self._listener.listen(512)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    @staticmethod
    def _answer(peer) -> None:
        with peer:
            peer.sendall(bytes(int.from_bytes(peer.recv(4, socket.MSG_WAITALL), "big")))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def ask(address, size: int) -> None:
    """OSError if fewer bytes come than were asked for."""
    with socket.create_connection(address, timeout=10) as own:
        own.sendall(size.to_bytes(4, "big"))
        while size:
            part = own.recv(1 << 16)
            if not part:
                raise OSError(f"{size} bytes are missing")
            size -= len(part)


def client(host, address, seed: int, broken: list) -> None:
    sizes = random.Random(seed)
    with host.entered():
        for number in range(CONNECTIONS):
            try:
                ask(address, sizes.choice(SIZES))
            except OSError as error:
                broken.append((seed, number, repr(error)))


@pytest.mark.parametrize("case", CASES)
def test_connections_go_on_while_rules_change(case, tmp_path):
    kind, nat = CASES[case]
    with Lab(*(ONE_WAY,) if nat else ()) as lab, make(kind, lab.firewall, tmp_path) as firewall:
        firewall.load(*(NAT_RULES.format(**PLACES[family]) for family in (4, 6)) if nat else (RULES4, RULES6))
        server = SizeServer(lab.server, lab.server.address(), 80)
        broken: list = []
        address = (PLACES[4]["outside"], 8080) if nat else (lab.server.address(), 80)
        threads = [threading.Thread(target=client, args=(lab.client, address, seed, broken)) for seed in range(CLIENTS)]
        for thread in threads:
            thread.start()
        rounds = 0
        while any(thread.is_alive() for thread in threads) or not rounds:
            for change in CHANGES:
                done = lab.firewall.run([sys.executable, "-m", "nfqfw", *change.split()], cwd=ROOT)
                assert done.returncode == 0, done
            rounds += 1
        for thread in threads:
            thread.join()
        server.close()
        stats = firewall.totals()["stats"]
    assert broken == []
    assert stats["drops"] == {}
