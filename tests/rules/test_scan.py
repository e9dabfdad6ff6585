"""The quick way through a line gives the rule that the long way gives, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfqfw.errors import RuleError, RuleErrors
from nfqfw.rules import lexer, load
from nfqfw.rules._scan import Scanner
from nfqfw.rules.grammar import DEFAULT_RESOLVER, Parser, make_rules
from nfqfw.rules.model import Table
from nfqfw.rules.saving import rule_text
from tests.rules import gen

CHAINS = ("u0", "u1", "u2", "u3", "u4", "u5")


def quick(text: str, family: int, table: str):
    chains = dict.fromkeys((*Table(table).chains, *CHAINS))
    return Scanner(family, table, chains, DEFAULT_RESOLVER).rule(text)


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
                          "-c", "1", "policy", "--dir", "in", "--pol", "none", "--reqid", "statistic", "--mode", "nth", "--every", "3", "conntrack", "--ctstate", "NEW", "-d", "0.0.0.0/0", "--", "-v", "MARK", "--set-mark", "1"])


@settings(max_examples=1500, deadline=None)
@given(st.lists(PIECES, max_size=16), st.sampled_from([2, 10]))
def test_any_line(pieces, family):
    text = " ".join(["-A", "INPUT", *pieces])
    try:
        agree(text, family, "filter")
    except RuleError as error:
        raise AssertionError(f"the quick way took what is refused: {text}: {error}") from None


HEAD = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:u0 - [0:0]\n"


def loaded(lines: str, **options):
    rules = load(HEAD + lines + "COMMIT\n", "f", 2, **options).table("filter").chains
    return [(chain, rule.line, rule.packets, rule.bytes, rule_text(rule)) for chain in ("INPUT", "u0") for rule in rules[chain].rules]


def test_lines_counts_and_chains_of_a_run():
    """Quick lines (q) and others (o: two addresses, an abbreviation, a tab) in turns: places, order and counts are the file's."""
    text = ("[1:2] -A INPUT -s 10.0.0.0/8 -j ACCEPT\n"              # 6 q
            "[3:4]  -A u0 -p tcp -m tcp --dport 80 -j DROP\n"       # 7 q
            "\n# a remark\n"
            "[5:6] -A INPUT -s 1.1.1.1,2.2.2.2 -j u0\n"             # 10 o: two rules
            "-A INPUT -j u0\n"                                      # 11 q
            "[18446744073709551615:18446744073709551617] -A u0 -d 10.0.0.1/32\n"
            "[7:8] -A INPUT\t-i lo -j ACCEPT\n")                    # 13 o
    assert loaded(text) == [
        ("INPUT", 6, 1, 2, " -s 10.0.0.0/8 -j ACCEPT"),
        ("INPUT", 10, 5, 6, " -s 1.1.1.1/32 -j u0"), ("INPUT", 10, 5, 6, " -s 2.2.2.2/32 -j u0"),
        ("INPUT", 11, 0, 0, " -j u0"), ("INPUT", 13, 7, 8, " -i lo -j ACCEPT"),
        ("u0", 7, 3, 4, " -p tcp -m tcp --dport 80 -j DROP"), ("u0", 12, 18446744073709551615, 18446744073709551615, " -d 10.0.0.1/32")]
    assert [row[2:4] for row in loaded(text, counters=False)] == [(0, 0)] * 7


@pytest.mark.parametrize("line, column", [("[1:2 -A INPUT", 1), ("-A INPUT -s 10.0.0.256/32", 13), ("-A nosuch -j DROP", 1), ("-A INPUT -j nosuch", 13),
                                          ("-A INPUT -p tcp -m tcp --dport 65536", 32), ("-A INPUT -m comment --comment", 21), ("-A INPUT -i", 10)])
def test_a_mistake_between_quick_lines_keeps_its_place(line, column):
    with pytest.raises(RuleErrors) as caught:
        loaded("-A INPUT -j DROP\n" * 3 + line + "\n" + "-A INPUT -j DROP\n" * 3)
    assert [(error.span.line, error.span.column) for error in caught.value.errors] == [(9, column)]


def test_bytes_that_are_no_ascii_go_the_quick_way_and_come_back():
    comment = "вход \udcff ☃"                               # Cyrillic, a byte that is no UTF-8, a snowman
    text = f'-A INPUT -m comment --comment "{comment}" -j ACCEPT'
    assert agree(text, 2, "filter")
    assert quick(text, 2, "filter")[1].matches[0].values["comment"] == comment
    assert [row[4] for row in loaded(text + "\n")] == [text.removeprefix("-A INPUT")]


def test_a_surrogate_is_no_text():
    with pytest.raises(RuleErrors) as caught:
        loaded('-A INPUT -j DROP\n-A INPUT -m comment --comment "\ud800"\n')
    assert [(error.span.line, error.span.column) for error in caught.value.errors] == [(7, 32)]


@pytest.mark.parametrize("address", ["::/0", "::1/128", "2001:db8::/32", "2001:db8:ffff::/33", "fe80::1/10", "::ffff:1.2.3.4/104", "ff02::1/7"])
@pytest.mark.parametrize("flag", ["-s", "! -s", "-d", "! -d"])
def test_ipv6_addresses(flag, address):
    taken = agree(f"-A INPUT {flag} {address} -j DROP", 10, "filter")
    assert taken or (address, "!" in flag) == ("::/0", False)


@pytest.mark.parametrize("text", ["1::/129", "1::/012", "1::", "1::/", "::g/64", "/64", "1::/64/", "1.2.3.4/32", "x" * 60 + "/64"])
def test_unusual_ipv6_addresses(text):
    if quick(f"-A INPUT -s {text}", 10, "filter") is not None:
        assert agree(f"-A INPUT -s {text}", 10, "filter")


@pytest.mark.parametrize("port", ["0", "1", "65535", "65536", "080", "0x50", "+80", "80x", "", "http", "1:2", ":", "99999", "100000"])
@pytest.mark.parametrize("options", ["-m tcp --dport {}", "-m tcp ! --sport {}", "-m tcp --sport {0} --dport {0}", "-m multiport --dports {}"])
def test_ports(port, options):
    text = f"-A INPUT -p tcp {options.format(port)} -j ACCEPT"
    try:
        agree(text, 2, "filter")
    except RuleError as error:
        raise AssertionError(f"the quick way took what is refused: {text}: {error}") from None
