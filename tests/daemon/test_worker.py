"""The worker in a namespace, with an engine that counts what it is told: order of start, swap and stop."""

import contextlib
import os
import socket
import threading
import time

import pytest

from netns import Lab
from nfqfw.daemon.worker import Worker, copy_range, hook_bits, notices
from nfqfw.errors import NfqfwError
from nfqfw.queue._accept_all import AcceptAll
from nfqfw.queue._callback import Callback
from nfqfw.queue._nfnetlink import queue_owner

netns = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
ACCEPT, HELD = 1, 2


class Program:
    def __init__(self, **features):
        self.features = {2: frozenset(features.get("v4", ())), 10: frozenset(features.get("v6", ()))}


class Recorder(Callback):
    """Accepts all and keeps what the worker told it."""

    def __new__(cls, decide=lambda view: ACCEPT, idle=None):
        self = super().__new__(cls, decide, idle)
        self.told = []
        return self

    def __init__(self, *_):
        pass

    def load(self, loaded):
        self.told.append(("load", loaded))

    def set_attached(self, bits):
        self.told.append(("attached", bits))


@pytest.fixture
def lab():
    with Lab() as lab:
        yield lab


@contextlib.contextmanager
def started(lab, engine, hooks, **options):
    worker = Worker([engine], queue=5, **options)
    with lab.firewall.entered():
        worker.start(hooks)
        try:
            yield worker
        finally:
            worker.stop()


def tables(lab):
    return lab.firewall.run(["nft", "list", "tables"], check=True).stdout


def ping(lab, count=2):
    return lab.client.run(["ping", "-c", str(count), "-i", "0.05", "-W", "1", lab.server.address()]).returncode == 0


@pytest.mark.parametrize("features, size", [
    ({}, 1500), ({"v4": ["conntrack", "reroutes"]}, 1500), ({"v6": ["rewrites"]}, 65531), ({"v4": ["payload"]}, 65531),
    ({"v4": ["nat"]}, 65531),
])
def test_copy_range(features, size):
    assert copy_range(Program(**features), 1500) == size


def test_hook_bits_are_the_kernels_numbers():
    assert hook_bits(["PREROUTING", "FORWARD", "POSTROUTING"]) == 0b10101      # NF_INET_* 0, 2, 4
    assert hook_bits(["INPUT", "OUTPUT"]) == 0b01010


def test_notices_are_for_the_package_only():
    assert notices("nfnetlink", 9000) == []
    assert any("9000" in line for line in notices("netfilterqueue", 9000))


def test_unknown_transport_is_an_error():
    with pytest.raises(NfqfwError, match="pigeon"):
        Worker([], transport="pigeon")


class TestLive:
    pytestmark = netns

    @pytest.mark.parametrize("transport", ["nfnetlink", "netfilterqueue"])
    def test_filters_between_start_and_stop_and_leaves_nothing(self, lab, transport):
        with started(lab, AcceptAll(), ["FORWARD"], transport=transport) as worker:
            assert worker.ready.is_set()
            assert ping(lab, 3)
            assert worker.totals()["packets"] >= 5                  # the sixth may still be counted
            assert "nfqfw" in tables(lab)
        assert worker.stop()["accepted"] == 6
        assert tables(lab) == ""
        assert ping(lab)

    def test_no_hooks_attach_nothing(self, lab):
        with started(lab, AcceptAll(), []):
            assert tables(lab) == ""
            assert ping(lab)

    def test_a_queue_owned_by_another_leaves_nothing_behind(self, lab):
        with started(lab, AcceptAll(), ["FORWARD"]) as first:
            with lab.firewall.entered(), pytest.raises(NfqfwError, match="owned by another process"):
                Worker([AcceptAll(), AcceptAll()], queue=4).start(["FORWARD"])
            with lab.firewall.entered():
                assert queue_owner(4) is None and queue_owner(5) is not None
            assert first.ready.is_set() and ping(lab)

    def test_load_diverts_new_hooks_before_and_frees_old_ones_after_the_swap(self, lab):
        engine = Recorder()
        with started(lab, engine, ["FORWARD"]) as worker:
            divert = worker._divert
            worker._divert = lambda hooks: (engine.told.append(("divert", set(hooks))), divert(hooks))
            engine.told.clear()
            worker.load("program", ["PREROUTING"])
            assert engine.told == [("divert", {"FORWARD", "PREROUTING"}), ("load", "program"), ("attached", 1),
                                   ("divert", {"PREROUTING"})]
            assert ping(lab)

    def test_load_waits_for_the_batch_in_progress(self, lab):
        inside, go_on = threading.Event(), threading.Event()

        def decide(view):
            inside.set()
            go_on.wait(3)
            return ACCEPT

        with started(lab, Recorder(decide), ["FORWARD"]) as worker:
            pinging = lab.client.popen(["ping", "-c", "1", lab.server.address()], stdout=-3)
            assert inside.wait(3)
            threading.Timer(0.3, go_on.set).start()
            begun = time.monotonic()
            worker.load("program")
            assert 0.1 < time.monotonic() - begun < 2
            assert pinging.wait(5) == 0

    def test_stop_judges_what_waits(self, lab):
        """Packets held at the moment of stop are released by the engine's idle and delivered, not lost."""
        held = []
        engine = Callback(lambda view: held.append(view.id) or HELD,
                          lambda: stopping.is_set() and [engine.release(held.pop(0), ACCEPT) for _ in list(held)])
        stopping = threading.Event()
        with started(lab, engine, ["FORWARD"]) as worker:
            pinging = lab.client.popen(["ping", "-c", "1", "-W", "5", lab.server.address()], stdout=-3)
            while not held:
                time.sleep(0.01)
            stopping.set()
            totals = worker.stop()
        assert pinging.wait(6) == 0
        assert totals["held"] == totals["released"] == 1

    def test_a_killed_worker_fails_closed_and_the_next_adopts(self, lab):
        def run_and_die():
            Worker([AcceptAll()], queue=5).start(["FORWARD"])
            os._exit(0)

        with contextlib.suppress(Exception):
            lab.firewall.call(run_and_die)
        assert "nfqfw" in tables(lab) and not ping(lab, 1)
        with started(lab, AcceptAll(), ["FORWARD"]):
            assert ping(lab)
        assert tables(lab) == "" and ping(lab)

    def test_a_full_queue_is_counted(self, lab):
        """The kernel drops what finds the queue full, without an id: only its own table knows."""
        go_on = threading.Event()
        engine = Callback(lambda view: go_on.wait(5) and ACCEPT)
        with started(lab, engine, ["FORWARD"], length=10) as worker:
            sink = lab.server.socket(socket.AF_INET, socket.SOCK_DGRAM)     # without it the server would answer by ICMP
            sink.bind((lab.server.address(), 9))
            sender = lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM)
            for _ in range(50):
                sender.sendto(b"x", (lab.server.address(), 9))
            sender.close()
            deadline = time.monotonic() + 4
            while not worker.totals()["queue_dropped"] and time.monotonic() < deadline:
                time.sleep(0.05)
            assert worker.totals()["queue_dropped"] == 40 and worker.totals()["waiting"] == 10
            go_on.set()
        totals = worker.stop()
        sink.close()
        assert totals["queue_dropped"] == 40 and totals["accepted"] == 10 and totals["waiting"] == 0

    def test_two_queues_share_the_traffic_and_lose_nothing(self, lab):
        """The kernel balances by addresses."""
        addresses = [f"10.0.1.{100 + number}" for number in range(32)]
        lab.client.ip(*(f"addr add {address}/24 dev eth0" for address in addresses))
        worker = Worker([AcceptAll(), AcceptAll()], queue=5)
        sink = lab.server.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sink.bind((lab.server.address(), 9000))
        sink.settimeout(3)
        with lab.firewall.entered():
            worker.start(["FORWARD"])
        senders = [lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(32)]
        for number, sender in enumerate(senders):
            sender.bind((addresses[number], 20000))
            sender.sendto(b"x", (lab.server.address(), 9000))
        assert {sink.recvfrom(10)[1][0] for _ in senders} == set(addresses)
        shares = [queue.statistics()["packets"] for queue in worker._queues]
        with lab.firewall.entered():
            assert worker.stop()["accepted"] == 32
        for each in (sink, *senders):
            each.close()
        assert len(shares) == 2 and min(shares) > 0

    def test_housekeeping_runs_about_once_a_second(self, lab):
        called = []
        with started(lab, AcceptAll(), [], housekeeping=lambda: called.append(time.monotonic())):
            time.sleep(2.4)
        assert len(called) == 2
