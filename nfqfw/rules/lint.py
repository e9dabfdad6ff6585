"""What iptables accepts but nobody means: warnings about a ruleset that is right as far as the kernel cares.

Overview.  `warnings(ruleset)` runs a table of checks over each table; each yields Warning values with the place and what is
the matter.  Nothing here changes what a ruleset does, and no check guesses: a rule is called dead only if every packet that
it could match is certainly decided by an earlier rule of its chain.

The cost is linear in the number of rules: a later rule is compared with the WIDE_MAX widest that ask for no address, with
PER_NETWORK of each network that its own address lies in, and with the one that asks for exactly the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from nfqfw.errors import Span
from nfqfw.ext import helpers
from nfqfw.rules.model import IPV6, Chain, Jump, Rule, Ruleset, Standard, Table

WIDE_MAX = 32               # earlier rules without an address that a later one is compared with
PER_NETWORK = 4             # and of each network
ICMPV6 = 58
TERMINAL = frozenset({"ACCEPT", "DROP", "QUEUE", "REJECT"})
# matches that give one packet the same answer wherever it meets them in a chain.  Not: what keeps state (limit, statistic ...), and what a
# rule in between may change (mark, tos, ttl ...)
CONSTANT = frozenset({"comment", "tcp", "udp", "udplite", "sctp", "dccp", "icmp", "icmp6", "multiport", "conntrack", "state", "iprange", "addrtype",
                      "mac", "physdev", "pkttype"})


class Warning(NamedTuple):
    """One remark; `span` says where."""

    span: Span
    message: str

    def __str__(self) -> str:
        return f"{self.span.file}:{self.span.line}: warning: {self.message}"


def warnings(ruleset: Ruleset) -> list[Warning]:
    """All remarks, in the order of the file."""
    found = [warning for table in ruleset.tables.values() for check in CHECKS for warning in check(table, ruleset.family)]
    return sorted(found, key=lambda warning: (warning.span.file, warning.span.line))


# ---- dead rules --------------------------------------------------------------------------------------------------------

def conditions(rule: Rule) -> int:
    """How many things a rule asks for: the fewer, the wider it is."""
    return (bool(rule.source) + bool(rule.destination) + bool(rule.in_interface) + bool(rule.out_interface) + bool(rule.protocol)
            + rule.fragment + len(asked(rule)))


def asked(rule: Rule) -> list:
    """Its matches, without those that always hold."""
    return [use for use in rule.matches if use.name != "comment"]


def decides_all(rule: Rule) -> bool:
    """True if no packet that matches goes on behind the rule."""
    target = rule.target
    name = target.name if target is not None and not isinstance(target, Jump) else ""
    return name in TERMINAL and all(use.name in CONSTANT for use in rule.matches)


def network_within(inner: bytes | None, inner_mask: bytes | None, outer: bytes | None, outer_mask: bytes | None) -> bool:
    """Every address of the inner network is one of the outer; None = any address."""
    if outer is None:
        return True
    if inner is None:
        return False
    return all(o & i == o and a & o == b & o for a, i, b, o in zip(inner, inner_mask, outer, outer_mask, strict=True))


def covers(wide: Rule, narrow: Rule) -> bool:
    """True only if every packet that `narrow` matches is matched by `wide`.  False when in doubt."""
    if wide.inverted or narrow.inverted:
        return same_question(wide, narrow)
    return (wide.protocol in (0, narrow.protocol)
            and wide.in_interface in ("", narrow.in_interface) and wide.out_interface in ("", narrow.out_interface)
            and (not wide.fragment or narrow.fragment)
            and network_within(narrow.source, narrow.source_mask, wide.source, wide.source_mask)
            and network_within(narrow.destination, narrow.destination_mask, wide.destination, wide.destination_mask)
            and all(use in narrow.matches for use in asked(wide)))


def question(rule: Rule) -> tuple:
    """Everything a rule asks for; equal for rules that match the same packets by the same words."""
    return (rule.source, rule.source_mask, rule.destination, rule.destination_mask, rule.in_interface, rule.out_interface,
            rule.protocol, rule.fragment, rule.inverted, tuple(map(hash, asked(rule))))


def same_question(a: Rule, b: Rule) -> bool:
    return question(a) == question(b) and asked(a) == asked(b)


class Earlier:
    """Rules of a chain so far that leave nothing over, found again by what a later rule asks for."""

    def __init__(self) -> None:
        self.equal: dict[tuple, Rule] = {}
        self.wide: list[Rule] = []                              # without an address, widest first
        self.networks: dict[tuple[str, bytes, bytes], list[Rule]] = {}      # (side, mask, network)
        self.masks: dict[str, set[bytes]] = {"source": set(), "destination": set()}

    def add(self, rule: Rule) -> None:
        self.equal.setdefault(question(rule), rule)
        side = "source" if rule.source is not None else "destination" if rule.destination is not None else ""
        if side:
            network, mask = getattr(rule, side), getattr(rule, side + "_mask")
            self.masks[side].add(mask)
            bucket = self.networks.setdefault((side, mask, masked(network, mask)), [])
            if len(bucket) < PER_NETWORK:
                bucket.append(rule)
        elif len(self.wide) < WIDE_MAX or conditions(rule) < conditions(self.wide[-1]):
            self.wide = sorted([*self.wide, rule], key=conditions)[:WIDE_MAX]

    def covering(self, rule: Rule) -> Rule | None:
        """An earlier rule that certainly takes every packet of this one."""
        same = self.equal.get(question(rule))
        if same is not None and same_question(same, rule):
            return same
        return next((other for other in self.candidates(rule) if covers(other, rule)), None)

    def candidates(self, rule: Rule) -> Iterator[Rule]:
        yield from self.wide
        for side, masks in self.masks.items():
            address = getattr(rule, side)
            for mask in masks if address is not None else ():
                yield from self.networks.get((side, mask, masked(address, mask)), ())


def masked(address: bytes, mask: bytes) -> bytes:
    return (int.from_bytes(address) & int.from_bytes(mask)).to_bytes(len(address))


def dead_rules(table: Table, family: int) -> Iterator[Warning]:
    """Rules that an earlier rule of their chain leaves no packet for.  Not in raw, where NOTRACK changes the state that rules ask for."""
    for chain in () if table.name == "raw" else table.chains.values():
        earlier = Earlier()
        for rule in chain.rules:
            first = earlier.covering(rule)
            if first is not None:
                yield Warning(rule.span, f"never decides anything: line {first.line} takes all its packets first")
                if not conditions(first):
                    break                                   # everything behind it is dead: said once
            elif decides_all(rule):
                earlier.add(rule)


# ---- chains ------------------------------------------------------------------------------------------------------------

def used_chains(table: Table) -> set[str]:
    return {rule.target.chain for chain in table.chains.values() for rule in chain.rules if isinstance(rule.target, Jump)}


def unused_chains(table: Table, family: int) -> Iterator[Warning]:
    """User chains with rules that nothing jumps to.  (An empty one is often made for another program to fill.)"""
    used = used_chains(table)
    for chain in table.chains.values():
        if chain.policy is None and chain.rules and chain.name not in used:
            yield Warning(place(chain, table), f"chain {chain.name} is used by no rule: its {len(chain.rules)} rules never run")


def place(chain: Chain, table: Table) -> Span:
    """Where the chain is declared, or where its first rule is, or the table's first."""
    if chain.file:
        return Span(chain.file, chain.line)
    rules = chain.rules or [rule for other in table.chains.values() for rule in other.rules[:1]]
    return rules[0].span if rules else Span("", 0)


# ---- what breaks a network ---------------------------------------------------------------------------------------------

def neighbour_discovery(table: Table, family: int) -> Iterator[Warning]:
    """IPv6 finds link-layer addresses by ICMPv6: an INPUT chain that drops it cuts the host off."""
    chain = table.chains.get("INPUT")
    if family != IPV6 or table.name != "filter" or chain is None or chain.policy != "DROP":
        return
    accepted = any(isinstance(rule.target, Standard) and rule.target.name == "ACCEPT" and rule.protocol in (0, ICMPV6)
                   and not rule.in_interface and not any(use.name in ("conntrack", "state") for use in rule.matches)
                   for other in table.chains.values() for rule in other.rules)
    if not accepted:
        yield Warning(place(chain, table),
                      "INPUT has policy DROP and no rule accepts ICMPv6 types 133 to 136: neighbour discovery fails, and IPv6 with it")


def answers_dropped(table: Table, family: int) -> Iterator[Warning]:
    """INPUT with policy DROP that looks at connection states, but accepts no answers."""
    chain = table.chains.get("INPUT")
    if table.name != "filter" or chain is None or chain.policy != "DROP":
        return
    states = [use for other in table.chains.values() for rule in other.rules for use in rule.matches if use.name in ("conntrack", "state")]
    texts = [use.ext.save(use) for use in states]
    if texts and not any("ESTABLISHED" in text for text in texts):
        yield Warning(place(chain, table),
                      "INPUT has policy DROP and no rule accepts ESTABLISHED: answers to this host's own connections are dropped")


# ---- what this build leaves undone -------------------------------------------------------------------------------------

def helpers_named(rules) -> dict[str, Rule]:
    """Helpers that -j CT gives to connections, by name, each with its first rule."""
    out: dict[str, Rule] = {}
    for rule in rules:
        values = getattr(rule.target, "values", {}) if getattr(rule.target, "name", "") == "CT" else {}
        if "helper" in values:
            out.setdefault(values["helper"], rule)
    return out


def helpers_without_engine(table: Table, family: int) -> Iterator[Warning]:
    """A name is not a helper."""
    for name, rule in helpers_named(rule for chain in table.chains.values() for rule in chain.rules).items():
        yield Warning(rule.span, helpers.note(name))


CHECKS = (dead_rules, unused_chains, neighbour_discovery, answers_dropped, helpers_without_engine)
