"""The kernel's twin: what it reads is what the real tools print, and its flows are what people expect."""

import os
import subprocess
from pathlib import Path

import pytest

from nfqfw.selftest import kernel as twin
from nfqfw.selftest.case import Case
from nfqfw.selftest.flow import disappointments, parse_flow, read_flow

pytestmark = [pytest.mark.netns, pytest.mark.skipif(bool(twin.missing()), reason=f"kernel twin: {twin.missing()}")]
FLOWS = sorted(Path(__file__).parents[1].joinpath("flows").glob("*.flow"))


@pytest.fixture(scope="module")
def kernel():
    with twin.KernelTwin(classes=True) as k:
        yield k


@pytest.mark.parametrize("case", [c for path in FLOWS for c in read_flow(path)], ids=lambda c: c.name)
def test_flow_on_the_kernel(kernel, case: Case):
    assert disappointments(case, kernel.run(case, states=True)) == []


def test_a_wrong_expectation_is_noticed(kernel):
    text = "family 4\n+0 client udp 9 ; ESTABLISHED any 120 assured\n"
    case = parse_flow(text)[0]
    assert len(disappointments(case, kernel.run(case, states=True))) == 3


def test_counters_equal_iptables_save(kernel):
    case = read_flow(FLOWS[0])[0]
    outcome = kernel.run(case)
    with kernel.inside():
        text = subprocess.run(["/usr/sbin/iptables-legacy-save", "-c"], capture_output=True, text=True, check=True,
                              env=dict(os.environ, XTABLES_LOCKFILE=kernel.lock.name)).stdout
    table, seen = "", {}
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            chain, policy, counts = line[1:].split()
            seen[(table, chain)] = [] if policy == "-" else [counts[1:-1]]
        elif line.startswith("["):
            counts, _, chain, *_ = line.split()
            seen[(table, chain)].append(counts[1:-1])
    for key, rows in seen.items():
        rows = rows[1:] + rows[:1] if key[1].isupper() else rows        # the policy stands first in a save file
        assert [f"{p}:{b}" for p, b in outcome.counters[key]] == rows, key


def test_namespaces_go_with_the_twin():
    before = set(os.listdir("/proc/self/fd"))
    with twin.KernelTwin():
        pass
    assert len(os.listdir("/proc/self/fd")) == len(before)
