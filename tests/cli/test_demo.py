"""The demo: its ruleset and its expectations hold on the kernel's iptables, and on nfqfw with the same counters; nothing is left."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid

import pytest

from nfqfw.demo import show
from nfqfw.demo.expectations import EXPECTATIONS
from tests.cli.kernel_firewall import KernelFirewall

pytestmark = pytest.mark.netns
needs_legacy = pytest.mark.skipif(not shutil.which("iptables-legacy-restore"), reason="needs iptables-legacy")
KNOWN = "known connections"     # rule whose count depends on when TCP acknowledges; every other counts what was sent


def missed(result) -> list:
    return [(o.expectation.name, o.expectation.family, o.observed) for o in result.observations if not o.ok]


def counters(totals: dict) -> dict:
    """(family, chain, rule or policy) -> (packets, bytes), without what timing decides; ICMPv6 of the hosts themselves is not traffic of ours."""
    counts = {}
    for r in totals["rules"]:
        what = r.get("rule") or "policy " + r["policy"]
        if r["table"] == "filter" and KNOWN not in what and (r["family"], r["chain"]) not in ((6, "OUTPUT"), (6, "INPUT")):
            counts[r["family"], r["chain"], what] = (r["packets"], r["bytes"])
    return counts


@pytest.fixture(scope="module")
def on_the_kernel():
    return show.run(firewall=KernelFirewall)


@pytest.fixture(scope="module")
def on_nfqfw():
    pytest.importorskip("nfqfw._engine", reason="needs the compiled engine")
    return show.run()


@needs_legacy
def test_the_kernel_meets_every_expectation(on_the_kernel):
    assert missed(on_the_kernel) == []


def test_nfqfw_meets_every_expectation(on_nfqfw):
    assert missed(on_nfqfw) == []
    assert len(on_nfqfw.observations) == len(EXPECTATIONS)


@needs_legacy
def test_nfqfw_counts_what_the_kernel_counts(on_the_kernel, on_nfqfw):
    """Rule by rule and policy by policy, packets and bytes."""
    assert counters(on_nfqfw.totals) == counters(on_the_kernel.totals)
    assert counters(on_nfqfw.totals)[4, "FORWARD", "policy DROP"][0] == 2       # the test can see: port 8443, and the server's SYN


def shape(line: str) -> str:
    """A line of conntrack -L without what chance decides: seconds left, client ports, ids of ping."""
    line = re.sub(r"^(\S+\s+\d+) \d+", r"\1", line.strip())
    return re.sub(r"\b(sport|dport|id)=(\d{4,5})\b", r"\1=…", line)


@needs_legacy
@pytest.mark.skipif(not shutil.which("conntrack"), reason="needs conntrack")
def test_nfqfw_lists_the_connections_that_the_kernel_lists(on_the_kernel, on_nfqfw):
    expected = sorted(map(shape, on_the_kernel.totals["connections"]))
    assert len(expected) == 7 and any("TIME_WAIT" in line and "[ASSURED]" in line for line in expected)
    assert sorted(map(shape, on_nfqfw.totals["connections"])) == expected


def mark_of(processes_environment: str) -> list[int]:
    """Processes that carry this word in their environment."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if processes_environment.encode() in file.read():
                    found.append(int(pid))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)], ids=lambda x: str(x))
def test_an_interrupted_demo_leaves_no_process(number, code):
    """Namespaces of the demo are anonymous: they are gone when no process is in them."""
    mark = f"NFQFW_TEST={uuid.uuid4()}"
    demo = subprocess.Popen([sys.executable, "-m", "nfqfw", "demo", "--duration", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            text=True, env=os.environ | dict([mark.split("=")]), start_new_session=True)
    said = show.read_until(demo.stderr, "asking", 30)
    assert "asking" in said
    time.sleep(0.5)
    assert len(mark_of(mark)) >= 3                  # the demo, the lab's first process, nfqfw run
    demo.send_signal(number)
    assert demo.wait(30) == code
    deadline = time.monotonic() + 5
    while mark_of(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert mark_of(mark) == []


def test_json_and_exit_code():
    pytest.importorskip("nfqfw._engine", reason="needs the compiled engine")
    done = subprocess.run([sys.executable, "-m", "nfqfw", "demo", "--json"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["ok"] and all(item["ok"] for item in data["expectations"]) and data["totals"]["rules"]


def test_an_expectation_that_is_not_observed_is_told(monkeypatch):
    """With a ruleset that accepts everything the demo must say NO: the test of the test."""
    class Open(KernelFirewall):
        def start(self) -> None:
            pass
    result = show.run(firewall=Open)
    assert not result.ok
    assert {(e.name, e.family) for e in EXPECTATIONS if e.expected != "no answer"} & {(n, f) for n, f, _ in missed(result)}
    assert ("ssh, port 22", 4, "connected") in missed(result)


def test_keep_names_the_namespaces(on_nfqfw):
    result = show.run(keep=True, firewall=KernelFirewall)
    try:
        assert len(result.namespaces) == 3
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
        assert all(name in listed for name in result.namespaces)
    finally:
        for name in result.namespaces:
            subprocess.run(["ip", "netns", "del", name], check=True)
