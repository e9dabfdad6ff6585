"""The command line of iptables as tables: its own options, and which of them go with which command."""

from __future__ import annotations

from typing import NamedTuple

NO, YES, MAYBE = 0, 1, 2            # argument of an option, as getopt counts them


class Base(NamedTuple):
    """An option of iptables itself.  letter is its short form; "0" has none."""

    letter: str
    takes: int


LONG: dict[str, Base] = {
    "append": Base("A", YES), "delete": Base("D", YES), "check": Base("C", YES), "insert": Base("I", YES),
    "replace": Base("R", YES), "list": Base("L", MAYBE), "list-rules": Base("S", MAYBE), "flush": Base("F", MAYBE),
    "zero": Base("Z", MAYBE), "new-chain": Base("N", YES), "delete-chain": Base("X", MAYBE), "rename-chain": Base("E", YES),
    "policy": Base("P", YES), "source": Base("s", YES), "destination": Base("d", YES), "src": Base("s", YES),
    "dst": Base("d", YES), "protocol": Base("p", YES), "in-interface": Base("i", YES), "jump": Base("j", YES),
    "table": Base("t", YES), "match": Base("m", YES), "numeric": Base("n", NO), "out-interface": Base("o", YES),
    "verbose": Base("v", NO), "wait": Base("w", MAYBE), "wait-interval": Base("W", MAYBE), "exact": Base("x", NO),
    "fragments": Base("f", NO), "version": Base("V", NO), "help": Base("h", MAYBE), "line-numbers": Base("0", NO),
    "modprobe": Base("M", YES), "set-counters": Base("c", YES), "goto": Base("g", YES), "ipv4": Base("4", NO),
    "ipv6": Base("6", NO),
}
SHORT: dict[str, int] = {base.letter: base.takes for base in LONG.values() if base.letter != "0"} | {"h": NO}

COMMANDS = frozenset("ACDIRLSFZNXEP")
RULE_COMMANDS = frozenset("ACDIR")          # those that read a rule

# options that may not be given with every command, in the order in which the tool looks at them
# letter, long name, commands that refuse it ("#": -D and -Z with a number)
LIMITED = (
    ("n", "numeric", "IDRAFZNXPESC#z"), ("s", "source", "LFZNXPES#z"), ("d", "destination", "LFZNXPES#z"),
    ("p", "protocol", "LFZNXPES#z"), ("j", "jump", "LFZNXPES#z"), ("v", "verbose", ""), ("x", "exact", "IDRAFZNXPESC#z"),
    ("i", "in-interface", "LFZNXPES#z"), ("o", "out-interface", "LFZNXPES#z"), ("0", "line-numbers", "IDRAFZNXPESC#z"),
    ("c", "set-counters", "DLFZNXESC#z"), ("f", "fragments", "LFZNXPES#z"),
)
LONG_NAME = {letter: name for letter, name, _ in LIMITED}
INVERTIBLE = frozenset("sdpiof")
