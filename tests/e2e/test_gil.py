"""The data path needs no GIL: while another thread of the process holds it for 2 s, ping and TCP go on as when idle."""

import os
import socket
import statistics
import threading
import time
from pathlib import Path

import pytest

from netns import Lab
from tests.e2e.firewalls import NfqfwFirewall

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

RULES = """
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i eth0 -j ACCEPT
COMMIT
"""
HOLD_SECONDS = 2.0
WINDOW_SECONDS = 1.6            # measured within the hold
ATTEMPTS = 5                    # the machine is shared: one attempt without disturbance proves the claim, a GIL in the path fails all
NOISE_SECONDS = 200e-6          # below this both are scheduling noise


@pytest.fixture(scope="module")
def lab():
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def firewall(lab, tmp_path_factory):
    script = str(Path(__file__).with_name("gil_run.py"))
    with NfqfwFirewall(lab.firewall, tmp_path_factory.mktemp("gil"), python=(script,)) as firewall:
        firewall.load(RULES)
        yield firewall


def p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


def pings(lab) -> list[float]:
    """Round trips of pings every 2 ms for WINDOW_SECONDS; a lost one counts a second."""
    count = int(WINDOW_SECONDS / 0.002)
    out = lab.client.run(["ping", "-n", "-i", "0.002", "-c", str(count), "-W", "1", lab.server.address()]).stdout
    seen = [float(line.split("time=")[1].split()[0]) / 1000 for line in out.splitlines() if "time=" in line]
    return seen + [1.0] * (count - len(seen))


def round_trips(lab) -> list[float]:
    """Round trips of one byte over one TCP connection for WINDOW_SECONDS."""
    with lab.server.socket() as listener, lab.client.socket() as client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((lab.server.address(), 7))
        listener.listen()
        echo = threading.Thread(target=_echo, args=(listener,), daemon=True)
        echo.start()
        client.settimeout(5)
        client.connect(listener.getsockname())
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        seconds, end = [], time.monotonic() + WINDOW_SECONDS
        while (start := time.monotonic()) < end:
            client.send(b"x")
            client.recv(1)
            seconds.append(time.monotonic() - start)
        client.close()
        echo.join(5)
    return seconds


def _echo(listener) -> None:
    peer, _ = listener.accept()
    with peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := peer.recv(16):
            peer.send(data)


@pytest.mark.parametrize("measure", [pings, round_trips])
def test_traffic_goes_on_while_the_gil_is_held(lab, firewall, measure):
    seen = []
    for _ in range(ATTEMPTS):
        idle = p99(measure(lab))
        answers = []
        holder = threading.Thread(target=lambda: answers.append(firewall.answer(str(HOLD_SECONDS))))
        holder.start()
        time.sleep(0.1)
        held = p99(measure(lab))
        over = not answers                  # the hold covered the whole measurement
        holder.join(10)
        assert answers == ["held"]
        seen.append((idle, held, over))
        if over and held <= max(2 * idle, NOISE_SECONDS):
            return
    pytest.fail(f"p99 idle, p99 while the GIL is held (s), measured within the hold: {seen}")
