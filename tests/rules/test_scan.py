"""The quick way through a line gives the rule that the long way gives, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfqfw.errors import RuleError
from nfqfw.rules import lexer
from nfqfw.rules._scan import Scanner
from nfqfw.rules.grammar import DEFAULT_RESOLVER, Parser, make_rules
from nfqfw.rules.model import Table
from tests.rules import gen

CHAINS = ("u0", "u1", "u2", "u3", "u4", "u5")


def quick(text: str, family: int, table: str):
    chains = dict.fromkeys((*Table(table).chains, *CHAINS))
    return Scanner(family, table, chains, DEFAULT_RESOLVER).rule(text, 0, 0, 0, "", 0)


def slow(text: str, family: int, table: str):
    chains = {*Table(table).chains, *CHAINS}
    command = Parser(lexer.split(text), family, table, "iptables-restore").parse()
    assert command.command == "A"
    rules = make_rules(command, chains.__contains__, family)
    assert len(rules) == 1
    return command.chain, rules[0]


def agree(text: str, family: int, table: str) -> bool:
    """Whether the quick way took it; if so, the long way has to give the same."""
    found = quick(text, family, table)
    if found is None:
        return False
    chain, rule = slow(text, family, table)
    assert found[0] == chain
    assert found[1].same_as(rule) and rule.same_as(found[1]), text
    assert type(found[1].target) is type(rule.target)
    return True


@pytest.mark.parametrize("family", [4, 6])
def test_vectors(family):
    taken = sum(agree(f"-A {v.chain} {v.wanted}", 2 if family == 4 else 10, v.table) for v in gen.accepted_vectors(family))
    total = len(gen.accepted_vectors(family))
    assert taken > total * 0.85, (taken, total)         # the rest are quotes with escapes


def test_generated_rulesets_go_the_quick_way():
    taken = total = 0
    for seed in range(4):
        table = ""
        for line in gen.ruleset(seed).splitlines():
            if line.startswith("*"):
                table = line[1:]
            elif line.startswith("["):
                total += 1
                taken += agree(line[line.index("]") + 2:], 2, table)
    assert taken == total > 100


PIECES = st.sampled_from(["-A", "INPUT", "u0", "-s", "1.2.3.4", "1.2.3.4/24", "1.2.3.4/33", "!", "-p", "tcp", "udp", "0", "all", "-m", "tcp", "--dport", "22",
                          "--sport", "1:2", "--syn", "--tcp-flags", "SYN,ACK", "SYN", "-j", "-g", "ACCEPT", "u1", "LOG", "--log-prefix", '"a b"', '""',
                          "-i", "eth0", "+", "-o", "lo", "-f", "multiport", "--dports", "1,2", "comment", "--comment", "x", "limit", "--limit", "5/s",
                          "-c", "1", "conntrack", "--ctstate", "NEW", "-d", "0.0.0.0/0", "--", "-v", "MARK", "--set-mark", "1"])


@settings(max_examples=1500, deadline=None)
@given(st.lists(PIECES, max_size=16), st.sampled_from([2, 10]))
def test_any_line(pieces, family):
    text = " ".join(["-A", "INPUT", *pieces])
    try:
        agree(text, family, "filter")
    except RuleError as error:
        raise AssertionError(f"the quick way took what is refused: {text}: {error}") from None
