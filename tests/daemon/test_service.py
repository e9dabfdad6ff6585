"""The daemon's own life, in this process, on an evaluator that judges nothing."""

import threading

import pytest

from nfqfw import limits
from nfqfw.daemon.manage import daemon_status, end_daemon
from nfqfw.daemon.service import Daemon, Options
from nfqfw.errors import NfqfwError
from nfqfw.rules import load
from tests.daemon.engines import REFUSAL, CountingEvaluator
from tests.daemon.namespace import wait_until

RULES = "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\nCOMMIT\n"


@pytest.fixture
def daemon(monkeypatch):
    monkeypatch.setattr(limits, "IDLE_CHECK_SECONDS", 0.05)
    said = []
    daemon = Daemon(load(RULES, "rules", 2), evaluator=CountingEvaluator(), log=said.append, options=Options(autostarted=True))
    daemon.said = said
    ready = threading.Event()
    thread = threading.Thread(target=daemon.serve, args=(ready.set,))
    thread.start()
    assert ready.wait(10)
    yield daemon
    daemon.end()
    thread.join(10)
    assert not thread.is_alive()


def test_serves_its_rules_and_ends_when_told(daemon):
    status = daemon_status()
    assert status["running"] and status["daemon"]["generation"] == 1
    assert [rule["rule"] for rule in status["rules"] if "rule" in rule] == ["-j ACCEPT"]
    assert "ended" in end_daemon()
    assert daemon.evaluator.stopped
    assert wait_until(lambda: not daemon_status()["running"], 5)


def test_dead_queue_thread_is_told_once_and_nothing_is_detached(daemon):
    """Fail closed: ending the daemon would take the diversion away and let everything pass."""
    daemon.evaluator.failure = RuntimeError("the loop of a queue ended by itself")
    assert wait_until(lambda: daemon.said, 5)
    assert not wait_until(lambda: len(daemon.said) > 1, 0.3)
    assert "are dropped" in daemon.said[0]
    assert not daemon.evaluator.stopped and daemon_status()["running"]


def test_daemon_that_cannot_start_leaves_nothing(run_directory):
    evaluator = CountingEvaluator()
    evaluator.refuse = REFUSAL
    with pytest.raises(NfqfwError):
        Daemon(load(RULES, "rules", 2), evaluator=evaluator).serve()
    assert evaluator.stopped
    assert not daemon_status()["running"]
    import os
    assert os.listdir(run_directory) == []
