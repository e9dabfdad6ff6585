"""Warnings: each check once where it must speak, and where it must not."""

import time

import pytest

from nfqfw.demo.show import ruleset
from nfqfw.rules import load
from nfqfw.rules.lint import warnings

HEAD = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n"         # rules start on line 4


def said(rules: str, family: int = 2, head: str = HEAD) -> list[tuple[int, str]]:
    return [(w.span.line, w.message) for w in warnings(load(head + rules + "COMMIT\n", "r", family))]


DEAD = [
    "-A INPUT -d 10.1.0.0/16 -p tcp -j DROP\n-A INPUT -s 1.2.3.4 -d 10.1.2.3 -p tcp --dport 80 -j ACCEPT\n",
    "-A INPUT -j DROP\n-A INPUT -p tcp -j ACCEPT\n",
    "-A INPUT -p tcp -j DROP\n-A INPUT -p tcp --dport 80 -j ACCEPT\n",
    "-A INPUT -p tcp --dport 80 -j ACCEPT\n-A INPUT -p tcp --dport 80 -j DROP\n",
    "-A INPUT -s 10.0.0.0/8 -j DROP\n-A INPUT -s 10.1.2.0/24 -p udp -j ACCEPT\n",
    "-A INPUT -i eth0 -j REJECT\n-A INPUT -i eth0 -d 10.0.0.1 -j ACCEPT\n",
    "-A INPUT -m conntrack --ctstate NEW -j DROP\n-A INPUT -p tcp -m conntrack --ctstate NEW -m comment --comment x -j LOG\n",
    "-A INPUT ! -s 10.0.0.0/8 -j DROP\n-A INPUT ! -s 10.0.0.0/8 -j ACCEPT\n",
    "-A INPUT -p tcp -m comment --comment one -j DROP\n-A INPUT -p tcp -m comment --comment two -j LOG\n",
]


@pytest.mark.parametrize("rules", DEAD)
def test_a_dead_rule_is_named_with_the_line_that_killed_it(rules):
    assert said(rules) == [(5, "never decides anything: line 4 takes all its packets first")]


ALIVE = [
    "-A INPUT -p tcp --dport 80 -j ACCEPT\n-A INPUT -p tcp -j DROP\n",                     # narrow before wide
    "-A INPUT -p tcp -j LOG\n-A INPUT -p tcp -j DROP\n",                                   # LOG decides nothing
    "-A INPUT -m limit --limit 1/s -j ACCEPT\n-A INPUT -j DROP\n",                         # limit leaves packets over
    "-A INPUT -m mark --mark 1 -j ACCEPT\n-A INPUT -j MARK --set-mark 1\n-A INPUT -m mark --mark 1 -j ACCEPT\n",
    "-A INPUT ! -s 10.0.0.0/8 -j DROP\n-A INPUT -s 10.0.0.0/8 -j ACCEPT\n",
    "-A INPUT -s 10.1.0.0/16 -j DROP\n-A INPUT -s 10.0.0.0/8 -j ACCEPT\n",
    "-A INPUT -i eth0 -j DROP\n-A INPUT -i eth1 -j ACCEPT\n-A FORWARD -i eth0 -j DROP\n",
    "-A INPUT -p tcp -j RETURN\n-A INPUT -p tcp -j ACCEPT\n",                              # dead, but RETURN is not in TERMINAL: in doubt, silent
]


@pytest.mark.parametrize("rules", ALIVE)
def test_a_rule_that_may_act_is_left_alone(rules):
    assert said(rules) == []


def test_an_unused_chain():
    rules = ":lost - [0:0]\n:kept - [0:0]\n:empty - [0:0]\n-A INPUT -j kept\n-A lost -j DROP\n-A kept -p tcp -j DROP\n"
    assert said(rules) == [(4, "chain lost is used by no rule: its 1 rules never run")]


def test_neighbour_discovery():
    head = "*filter\n:INPUT DROP [0:0]\n"
    text = "INPUT has policy DROP and no rule accepts ICMPv6 types 133 to 136: neighbour discovery fails, and IPv6 with it"
    assert said("-A INPUT -p tcp --dport 22 -j ACCEPT\n", 10, head) == [(3, text)]
    assert said("-A INPUT -p ipv6-icmp -j ACCEPT\n", 10, head) == []
    assert said("-A INPUT -p tcp --dport 22 -j ACCEPT\n", 2, head) == []


def test_answers():
    head = "*filter\n:INPUT DROP [0:0]\n"
    text = "INPUT has policy DROP and no rule accepts ESTABLISHED: answers to this host's own connections are dropped"
    assert said("-A INPUT -m conntrack --ctstate NEW -p tcp --dport 22 -j ACCEPT\n", 2, head) == [(3, text)]
    assert said("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n", 2, head) == []
    assert said("-A INPUT -p tcp --dport 22 -j ACCEPT\n", 2, head) == []                   # stateless on purpose


@pytest.mark.parametrize("version, family", [(4, 2), (6, 10)])
def test_the_demo_has_none(version, family):
    assert warnings(load(ruleset(version).read_text(), "demo", family)) == []


def test_many_rules_take_linear_time():
    def seconds(count: int) -> float:
        text = "".join(f"-A INPUT -s 10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}/32 -p tcp -m tcp --dport {i % 65535 + 1} -j DROP\n" for i in range(count))
        loaded = load(HEAD + text + "COMMIT\n", "r", 2)
        began = time.process_time()
        assert warnings(loaded) == []
        return time.process_time() - began
    least = [min(seconds(count) for _ in range(3)) for count in (2000, 8000)]
    assert least[1] < 12 * max(least[0], 0.02)          # four times the rules; by pairs it would be sixteen times the work
