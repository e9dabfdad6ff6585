"""A running nfqfw beside the kernel: real NFQUEUE in a namespace of its own, the same packets, every frame, counter and connection.

Both attach plans: `exact` diverts every hook, the other only those that the ruleset needs, with the steps of the rest run there.
"""

import os
from dataclasses import replace

import pytest

from nfqfw import attach
from nfqfw.selftest import kernel as twin
from nfqfw.selftest import lanes
from nfqfw.selftest.flow import parse_flow
from nfqfw.selftest.generate import active_features, listed_as_explained
from nfqfw.selftest.live import LiveTwin
from tests.oracle.recording import UNSUPPORTED

pytestmark = [pytest.mark.netns, pytest.mark.skipif(bool(twin.missing()), reason=f"kernel twin: {twin.missing()}")]
FIRST, CASES = int(os.environ.get("ORACLE_SEED", "3000000")), 250       # of each plan

STORY = """
family 4
rules
*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p udp --dport 9 -j NOTRACK
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -o eth1 -j MASQUERADE
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A FORWARD -p tcp --dport 80 -j ACCEPT
-A FORWARD -j REJECT
COMMIT
end
+0 client tcp S 100:101(0)
+0 server S0:80>R2:1111 tcp S. 500:501(0) ack 101
+0 client udp 20
+0 client C0:7>S0:9 udp 20
+0 local R1:5>C0:6 udp 4
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "plan"])
def test_random_cases_are_equal(exact):
    """Seeds that no recording has; ORACLE_SEED starts elsewhere."""
    first = FIRST + (0 if exact else CASES)
    report = lanes.both(range(first, first + CASES), active_features(UNSUPPORTED), seconds=500, ours=LiveTwin(exact))
    report.set_aside(listed_as_explained(UNSUPPORTED))
    shown = "\n".join(f"seed {seed}: {lines[:4]}" for seed, lines in list(report.different.items())[:10])
    assert not report.different, f"{len(report.different)} of {report.cases} cases differ\n{shown}"
    assert report.cases == CASES and len(report.undecided) <= CASES // 50


@pytest.mark.parametrize("exact, hooks", [(True, {*attach.HOOKS}), (False, {"PREROUTING", "INPUT", "FORWARD", "OUTPUT"})], ids=["exact", "plan"])
def test_the_packets_came_by_the_queue_and_the_kernel_tracked_none(exact, hooks):
    """And a rule that only one side has is noticed."""
    case = parse_flow(STORY)[0]
    other = replace(case, rules=case.rules.replace("--dport 80 -j ACCEPT", "--dport 80 -j DROP"))
    with twin.KernelTwin() as kernel, LiveTwin(exact) as ours:
        theirs, mine = kernel.run(case), ours.run(case)
        assert ours.differences(theirs, mine) == []
        assert [len(step) for step in mine.steps] == [1] * len(case.steps)          # sent on, or an answer of REJECT
        assert set(ours.evaluator.worker.hooks) == hooks
        assert ours.evaluator.stats()["packets"] >= 8
        with ours.inside(), open("/proc/sys/net/netfilter/nf_conntrack_count") as f:
            assert int(f.read()) == 0
        assert ours.differences(theirs, ours.run(other)) != []


def test_fragments_for_this_host_count_once():
    """A named difference: with PREROUTING not diverted and nothing tracked, the kernel shows the merged datagram alone."""
    case = parse_flow("""
family 4
rules
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
-A INPUT -i eth0
COMMIT
end
+0 client frag 0+16+ id=9 { C0:7>R1:9 udp 32 }
+0 client frag 16+16+ id=9 { C0:7>R1:9 udp 32 }
+0 client frag 32+8 id=9 { C0:7>R1:9 udp 32 }
""")[0]
    with twin.KernelTwin() as kernel, LiveTwin(False) as plan, LiveTwin(True) as exact:
        theirs = kernel.run(case)
        assert exact.differences(theirs, exact.run(case)) == []
        found = plan.differences(theirs, plan.run(case))
    assert found == [f"counter {table} PREROUTING rule 1: kernel (3, 100), nfqfw (1, 60)" for table in ("mangle", "raw")]
