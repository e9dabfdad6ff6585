"""nfqfw trace: one packet, its walk, its verdict."""

import json
import subprocess
import sys

import pytest

from nfqfw.demo.show import ruleset

pytest.importorskip("nfqfw._engine", reason="needs the compiled engine")
FORWARDED = ("--in", "eth0", "--out", "eth1")


def trace(*argv, version=4) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "nfqfw", "trace", str(ruleset(version)), *argv], capture_output=True, text=True, timeout=60)


# question, verdict: what the demo observes live
CASES = [
    (4, "tcp 10.0.1.2 10.0.2.2:80", "ACCEPT"), (4, "tcp 10.0.1.2 10.0.2.2:22", "DROP"), (4, "tcp 10.0.1.2:1234 10.0.2.2:23", "DROP"),
    (4, "icmp 10.0.1.2 10.0.2.2", "ACCEPT"), (4, "icmp 10.0.1.2 10.0.2.2 --type echo-reply", "DROP"), (4, "udp 10.0.1.2 10.0.2.2:9", "ACCEPT"),
    (4, "gre 10.0.1.2 10.0.2.2", "DROP"), (6, "tcp fd00:1::2 [fd00:2::2]:80", "ACCEPT"), (6, "tcp [fd00:1::2]:99 [fd00:2::2]:22", "DROP"),
    (6, "icmp fd00:1::2 fd00:2::2", "ACCEPT"),
]


@pytest.mark.parametrize("version, question, verdict", CASES)
def test_verdicts_are_those_of_the_demo(version, question, verdict):
    done = trace(*question.split(), *FORWARDED, "--expect", verdict, version=version)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == verdict


def test_another_verdict_than_expected_is_exit_1():
    assert trace("tcp", "10.0.1.2", "10.0.2.2:22", *FORWARDED, "--expect", "ACCEPT").returncode == 1


def test_a_refused_packet_shows_the_answer():
    out = trace("tcp", "10.0.1.2", "10.0.2.2:23", *FORWARDED).stdout
    assert "answered with: TCP 10.0.2.2:23 -> 10.0.1.2:40000 ACK,RST" in out


def test_json():
    data = json.loads(trace("tcp", "10.0.1.2", "10.0.2.2:22", *FORWARDED, "--json").stdout)
    assert data["verdict"] == "DROP" and data["trace"][0]["steps"][-1]["event"] == "end" and data["log"][0].startswith("blocked: IN=eth0")


@pytest.mark.parametrize("argv, said", [
    ("tcp 10.0.1.2 10.0.2.2", "needs a port"), ("tcp 10.0.1.2 10.0.2.2:99999", "not in 0..65535"), ("tcp nowhere 10.0.2.2:1", "no address"),
    ("udp 10.0.1.2 [fd00::1]:5", "different IP versions"), ("tcp 10.0.1.2 10.0.2.2:1 --flags XY", "letters of"), ("icmp 1.1.1.1 2.2.2.2 --type big", "type big: a number"),
])
def test_what_is_no_packet_is_wrong_use(argv, said):
    done = trace(*argv.split())
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
