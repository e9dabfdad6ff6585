"""The demo: its ruleset and its expectations hold on the kernel's iptables, and on nfqfw."""

import shutil

import pytest

from nfqfw.demo import show
from nfqfw.demo.expectations import EXPECTATIONS
from tests.cli.kernel_firewall import KernelFirewall

needs_legacy = pytest.mark.skipif(not shutil.which("iptables-legacy-restore"), reason="needs iptables-legacy")


def count(totals: dict, family: int, comment: str) -> int:
    """Packets of the rule with this comment, or of the policy of FORWARD."""
    if not comment:
        return sum(r["packets"] for r in totals["rules"] if r["family"] == family and r["chain"] == "FORWARD" and "policy" in r)
    return sum(r["packets"] for r in totals["rules"] if r["family"] == family and
               (f'--comment "{comment}"' in r.get("rule", "") or f"--comment {comment} " in r.get("rule", "")))


@pytest.mark.netns
@needs_legacy
def test_the_kernel_meets_every_expectation():
    result = show.run(firewall=KernelFirewall)
    assert [(o.expectation.name, o.observed) for o in result.observations if not o.ok] == []
    for e in EXPECTATIONS:
        assert count(result.totals, e.family, e.rule) >= 1, e
