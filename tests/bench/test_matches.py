"""The benchmark of matches and targets measures each that evaluates, on packets that it answers yes to."""

import pytest

from bench.matches import CONTINUES, DECIDES, NOTHING, Rig, matches, measured, targets
from tests.cli.test_readme import names_by_row

CASES = matches() + targets()


def test_every_name_that_evaluates_is_measured():
    rows = names_by_row()
    assert {case.name for case in matches()} - {NOTHING} == rows["matches, evaluated"]
    assert {case.name for case in targets()} == rows["targets, evaluated"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_copy_of_the_rule_counts_every_packet(case):
    """`limit` and `statistic` may let one go."""
    rig = Rig(case, 3 if case.kind != DECIDES else 1)
    for _ in range(3):
        rig.batch(False)
    copies = rig.counts()[:3 if case.kind != DECIDES else 1]
    assert all(count >= (180 if case.name in ("limit", "statistic") else 192) for count in copies), copies


@pytest.mark.parametrize("kind", [CONTINUES, DECIDES])
def test_a_figure(kind):
    case = next(case for case in CASES if case.kind == kind)
    assert measured(case, 2, 2).runs == 2
