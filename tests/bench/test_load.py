"""Load time and memory count what they say."""

import pytest

from bench import classify, load, memory, rulesets
from bench.subjects import program_of


def test_the_steps_of_loading_add_up():
    spent = load.ours(rulesets.classbench("acl", 300).text())
    assert set(spent) == set(load.STEPS) and all(value >= 0 for value in spent.values()) and spent["index"] <= spent["compile"]
    assert load.total({name: 1.0 for name in load.STEPS}) == len(load.STEPS) - 1        # the index is part of compilation


def test_cases_have_the_rules_they_name():
    for case in load.cases([20], 3, 30):
        assert case.text().count("\n-A ") == case.rules, case.label


def test_a_ruleset_that_does_not_load_is_an_error(tmp_path):
    if not load.present("legacy"):
        pytest.skip("needs iptables-legacy")
    with pytest.raises(RuntimeError, match="iptables-legacy-restore failed: exit"):
        load.theirs("iptables-legacy-restore", "*filter\n-A NOWHERE -j ACCEPT\nCOMMIT\n")


def test_memory_is_that_of_the_ruleset_and_of_the_flows():
    held = memory.held_by("acl", 3000)
    assert held["rules"] == 3000 and held["program"] < held["resident"] < 100 * held["program"]
    known = memory.apart("flows", 20_000)
    assert known["flows"] == 20_000 and 64 < known["resident"] / 20_000 < 2000


def test_classification_is_timed_for_every_kind_of_header_and_makes_no_connection():
    spent = classify.measure(rulesets.classbench("fw", 40), 256, 2)
    assert spent.keys() == set(classify.KINDS) and all(len(runs) == 2 and min(runs) > 5 for runs in spent.values())
    assert "conntrack" not in program_of(rulesets.classbench("fw", 40).text()).features[2]
