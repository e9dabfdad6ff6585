"""The rulesets in force: what a commit changes, what it keeps, and what a refused one leaves.  Figures are sums by hand."""

import pytest

from tests.daemon.engines import REFUSAL, CountingEvaluator
from nfqfw.compile import compile_rulesets
from nfqfw.daemon.live import LiveStore
from nfqfw.errors import NfqfwError, RuleError, RuleErrors, Span
from nfqfw.rules import applet, load, save
from nfqfw.rules.model import Ruleset

TEXT = """*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -s 10.0.0.1/32 -j ACCEPT
-A INPUT -s 10.0.0.2/32 -j ACCEPT
COMMIT
"""


@pytest.fixture
def store():
    return LiveStore(CountingEvaluator(), compile_rulesets)


def put(store, text=TEXT, family=2):
    store.commit({family: load(text, "test", family)})
    return rules_of(store, family)


def rules_of(store, family=2):
    return store.ruleset(family).tables["filter"].chains["INPUT"].rules


def with_rules(ruleset, rules):
    table = ruleset.tables["filter"]
    return ruleset.with_table(table.with_chain(table.chains["INPUT"].with_rules(rules)))


def counters(store, family=2):
    return [(rule.packets, rule.bytes) for rule in store.counted(family).tables["filter"].chains["INPUT"].rules]


def test_empty_at_first(store):
    assert all(store.ruleset(family).is_empty() for family in (2, 10))
    assert store.counts() == {}


def test_counts_are_base_and_live(store):
    a, b = put(store)
    store.evaluator.hit(a, 2, 200)
    store.commit({2: with_rules(store.ruleset(2), [b, a])})
    store.evaluator.hit(a, 1, 50)
    assert counters(store) == [(0, 0), (3, 250)]


def test_policy_counts_through_a_change_of_rules(store):
    put(store)
    policy = store.ruleset(2).tables["filter"].chains["INPUT"].count
    store.evaluator.hit(policy, 5, 500)
    store.commit({2: with_rules(store.ruleset(2), [])})
    assert store.counted(2).tables["filter"].chains["INPUT"].packets == 5


def test_replaced_rulesets_come_back_with_their_last_counts(store):
    """-L -Z: what was counted up to the swap is listed, nothing falls between."""
    a, b = put(store)
    store.evaluator.hit(a, 7, 70)
    old = store.commit({2: with_rules(store.ruleset(2), [a.with_counts(0, 0), b])}, counted=True)
    assert old[2].tables["filter"].chains["INPUT"].rules[0].packets == 7
    assert counters(store) == [(0, 0), (0, 0)]


def test_other_family_keeps_counting(store):
    a, _ = put(store)
    store.evaluator.hit(a, 1, 10)
    put(store, TEXT.replace("10.0.0.1/32", "fd00::1/128").replace("10.0.0.2/32", "fd00::2/128"), 10)
    assert counters(store) == [(1, 10), (0, 0)]
    assert counters(store, 10) == [(0, 0), (0, 0)]


def test_both_families_change_in_one_load(store):
    store.commit({2: load(TEXT, "v4", 2), 10: load("*filter\n:INPUT DROP [0:0]\nCOMMIT\n", "v6", 10)})
    assert store.evaluator.loads == 1


@pytest.mark.parametrize("error", [REFUSAL, OSError(1, "not permitted")])
def test_refused_by_the_evaluator_leaves_everything(store, error):
    a, b = put(store)
    store.evaluator.hit(b, 1, 10)
    before = save(store.counted(2))
    store.evaluator.refuse = error
    with pytest.raises(NfqfwError):
        store.commit({2: with_rules(store.ruleset(2), [])})
    assert save(store.counted(2)) == before
    assert rules_of(store) == [a, b]


def test_ruleset_that_cannot_be_compiled_changes_nothing(store):
    put(store)
    error = RuleErrors([RuleError("not evaluated yet", Span("new.v4", 5))])

    def refuse(rulesets, generation):
        raise error

    store.compile = refuse
    with pytest.raises(NfqfwError, match=r"^new\.v4:5: not evaluated yet$"):
        store.commit({2: load(TEXT, "new.v4", 2)})
    assert rules_of(store)[0].file == "test"
    assert store.generation == 1


def test_empty_ruleset_is_not_compiled_and_its_policy_counts_stay(store):
    put(store)
    table = store.ruleset(2).tables["filter"]
    policy = table.chains["OUTPUT"].count
    store.evaluator.hit(policy, 3, 30)
    chains = {name: chain.with_rules([]) for name, chain in table.chains.items()}
    chains["INPUT"].policy = "ACCEPT"
    store.commit({2: Ruleset(2, {"filter": type(table)("filter", chains)})})
    assert store.evaluator.program.chains == ()
    assert store.counted(2).tables["filter"].chains["OUTPUT"].packets == 3


def test_tables_that_a_commit_does_not_touch_keep_their_state(store):
    text = TEXT + "*mangle\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n" \
                  ":POSTROUTING ACCEPT [0:0]\n-A INPUT -m limit -j ACCEPT\nCOMMIT\n"
    put(store, text)
    store.commit({2: with_rules(store.ruleset(2), [])})
    assert store.evaluator.kept == {(2, "mangle")}


@pytest.mark.parametrize("flags", [["-nL"], ["-S"], ["-nL", "INPUT"], ["-nL", "-v"], ["-S", "-v"]])
def test_listing_and_zeroing_in_one_command(store, flags):
    """With counts or without: what is listed is what was there, and then there are none."""
    put(store)
    plain = applet.run(["iptables", *flags], store)
    found = applet.run(["iptables", *flags, "-Z"], store)
    assert (found.code, found.stdout) == (0, plain.stdout)
    assert counters(store) == [(0, 0), (0, 0)]
