"""Numbered cases, on the kernel and on us: what the text expects, what every rule counted, what every conntrack command said.

docs/conntrack_cases.md says which statement of connection tracking each of them shows.
"""

from pathlib import Path

import pytest

from nfqfw.selftest import kernel as twin
from nfqfw.selftest.flow import disappointments, read_flow
from nfqfw.selftest.ours import OurTwin
from nfqfw.selftest.outcome import differences

pytestmark = [pytest.mark.netns, pytest.mark.skipif(bool(twin.missing("conntrack")), reason=f"kernel twin: {twin.missing('conntrack')}")]
HERE = Path(__file__).parent
FILES = [*sorted((HERE / "flows").glob("*.flow")), *sorted((HERE.parent / "flows").glob("conntrack_*.flow"))]


@pytest.fixture(scope="module")
def twins():
    with twin.KernelTwin(classes=True) as kernel, OurTwin(classes=True) as ours:
        yield kernel, ours


@pytest.mark.parametrize("case", [c for path in FILES for c in read_flow(path)], ids=lambda c: c.name)
def test_flow(twins, case):
    theirs, mine = (t.run(case, states=True) for t in twins)
    assert disappointments(case, theirs) == [], "kernel"
    assert disappointments(case, mine) == [], "nfqfw"
    if any(step.command for step in case.steps):        # programs take time that our clock does not know; the commands show time-outs
        for outcome in (theirs, mine):
            outcome.connections = [c._replace(timeout=0) for c in outcome.connections]
    assert differences(theirs, mine) == []
