"""load and save: a fixed point, all mistakes at once, and nothing but a Ruleset or RuleErrors for any bytes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfqfw.errors import RuleErrors
from nfqfw.rules import check, load, save
from tests.rules import gen


def body(text: str) -> str:
    return "".join(line for line in text.splitlines(True) if not line.startswith("#"))


@pytest.mark.parametrize("seed", range(8))
def test_save_of_load_is_a_fixed_point(seed):
    family = 4 if seed % 2 else 6
    ruleset = load(gen.ruleset(seed, family), "x", 2 if family == 4 else 10)
    once = save(ruleset, counters=True)
    assert body(save(load(once, "x", ruleset.family), counters=True)) == body(once)
    assert once.count("\n[") > 50


def test_every_mistake_is_reported_with_its_place():
    text = ("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp --dport 70000 -j ACCEPT\n-A INPUT -m nosuch -j ACCEPT\n"
            "-A INPUT -m conntrack --ctstate NEW,FOO\n-A INPUT -j nowhere\n-A INPUT -s 1.2.3.4/33\nCOMMIT\ngarbage\n")
    with pytest.raises(RuleErrors) as caught:
        load(text, "rules.v4", 2)
    spans = [(e.span.line, e.span.column, e.span.length) for e in caught.value.errors]
    assert spans == [(3, 25, 5), (4, 13, 6), (5, 37, 3), (6, 13, 7), (7, 21, 2), (9, 1, 7)]
    shown = str(caught.value).split("\n")
    assert shown[:3] == ["rules.v4:3:25: invalid port/service `70000' specified", "-A INPUT -p tcp --dport 70000 -j ACCEPT", " " * 24 + "^^^^^"]


def test_whole_table_checks_report_all_and_name_the_line():
    text = ("*filter\n:INPUT ACCEPT [0:0]\n:a - [0:0]\n:b - [0:0]\n:c - [0:0]\n:d - [0:0]\n-A a -j b\n-A b -j a\n-A c -j d\n-A d -j c\n-A INPUT -j a\n"
            "COMMIT\n*mangle\n-A INPUT -j REJECT\n-A INPUT -j TRACE\nCOMMIT\n")
    with pytest.raises(RuleErrors) as caught:
        check(load(text, "f", 2))
    assert [(e.span.line, e.errno_name) for e in caught.value.errors] == [(8, "ELOOP"), (14, "EINVAL"), (15, "EINVAL")]


def test_unreachable_rules_are_not_held_to_hooks():
    """spec 3.6: behind an unconditional verdict nothing is reached, and a loop that no hook reaches is no loop."""
    check(load("*filter\n:a - [0:0]\n:b - [0:0]\n-A a -j b\n-A b -j a\n-A INPUT -j ACCEPT\n-A INPUT -j a\nCOMMIT\n", "f", 2))


def test_unterminated_quote_and_control_characters_are_refused():
    for line in ('-A INPUT -m comment --comment "x -j ACCEPT', '-A INPUT -m comment --comment "a\x1bb"', "-A INPUT\x00"):
        with pytest.raises(RuleErrors):
            load(f"*filter\n{line}\nCOMMIT\n", "f", 2)


@pytest.mark.parametrize("rule", ["-m set --match-set foo src", "-m set ! --match-set foo src,dst --return-nomatch ! --update-counters --packets-gt 5",
                                  "-j SET --add-set foo src --exist --timeout 60", "-j SET --del-set foo src,dst", "-j SET --map-set foo src --map-mark"])
def test_sets_load_from_files(rule):
    """A file is checked apart from any host, so names of sets are taken on trust; a command line asks for them (errors.txt)."""
    text = f"*filter\n-A INPUT {rule}\nCOMMIT\n"
    assert f"-A INPUT {rule}\n" in save(load(text, "f", 2))


def test_a_thousand_chains_deep():
    chains = "".join(f":c{i} - [0:0]\n" for i in range(1000))
    jumps = "".join(f"-A c{i} -j c{i + 1}\n" for i in range(999))
    check(load(f"*filter\n{chains}{jumps}-A INPUT -j c0\nCOMMIT\n", "f", 2))


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(["*filter", "COMMIT", ":INPUT ACCEPT [0:0]", ":u - [0:0]", "-A", "-A INPUT", "INPUT", "u", "-p tcp", "--dport", "22", "!",
                                 "-j", "LOG", "ACCEPT", '"', "\\", "\n", "\n", "\n", "-m", "limit", "-X", "-E u v", "[1:2]", "-s", "::1", "1.2.3.4,5.6.7.8",
                                 "-I INPUT 9", "-D INPUT 1", "-Z", "-F", "-P INPUT", "DROP", "\x00", "\r", "é", "--", "-", "-h", "-V", "-L", "-4"]), max_size=60),
       st.booleans())
def test_any_words_give_a_ruleset_or_errors(words, v6):
    text = " ".join(words).replace(" \n ", "\n") + "\n"
    try:
        load(text, "f", 10 if v6 else 2)
    except RuleErrors as errors:
        assert errors.errors and str(errors)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300))
def test_any_text_gives_a_ruleset_or_errors(text):
    try:
        load(text, "f", 2)
    except RuleErrors as errors:
        assert str(errors)


@pytest.mark.parametrize("piece", ['"', "\\", "-m tcp ", "-A INPUT ", "! ", "a", "1.2.3.4,", "--d", "[", ":"])
def test_long_lines_take_linear_time(piece):
    """A line of 1 MB is refused or read in the time that its length asks for."""
    start = time.process_time()
    for prefix in ("", "-A INPUT ", "-A INPUT -m comment --comment ", "-A INPUT -s "):
        try:
            load("*filter\n" + prefix + piece * (1_000_000 // len(piece)) + "\nCOMMIT\n", "f", 2)
        except RuleErrors:
            pass
    assert time.process_time() - start < 30         # CPU time; by the square of the length it would be hours
