"""Whole-table checks, as the kernel makes them at each commit (spec/iptables.md 3.6).

Every chain is walked from each hook; a rule behind an unconditional verdict is reached by none, so its hooks are not looked at.
What the walk needs to know of a chain is kept in `Chain.summary`, so that a change of one chain does not read the others again.
"""

from __future__ import annotations

from typing import Iterator, NamedTuple

from nfqfw.errors import OTHER_PROBLEM, RuleError, RuleErrors, Span
from nfqfw.ext.api import HOOK_NAMES, MATCH, KernelRefusal, Use
from nfqfw.rules.model import BUILTIN_CHAINS, Chain, Jump, Rule, Ruleset, Standard, Table
from nfqfw.rules.restore import ERRNO_TEXT
from nfqfw.rules.saving import rule_text


class Summary(NamedTuple):
    """What matters of a chain: rules in reach and out of reach of the chain's head."""

    jumps: list[tuple[str, Rule]]           # chains it goes on to, from rules in reach
    hidden_jumps: list[tuple[str, Rule]]
    restricted: list[tuple[int, Rule, bool]]    # position, rule with an extension that the kernel restricts, in reach


def summarise(chain: Chain) -> Summary:
    if chain.summary is not None:
        return chain.summary
    jumps, hidden, restricted = [], [], []
    reached = True
    for position, rule in enumerate(chain.rules, 1):
        target = rule.target
        kind = type(target)
        if kind is Jump:
            (jumps if reached else hidden).append((target.chain, rule))
        elif kind is Use and target.ext.restricted:
            restricted.append((position, rule, reached))
        if rule.matches and (kind is not Use or not target.ext.restricted):
            for use in rule.matches:
                if use.ext.restricted:
                    restricted.append((position, rule, reached))
                    break
        if reached and kind is Standard and rule.is_unconditional():
            reached = False
    chain.summary = Summary(jumps, hidden, restricted)
    return chain.summary


def check(ruleset: Ruleset, only: list[str] | None = None) -> None:
    """Raise RuleErrors with everything that the kernel would refuse in these tables (all by default)."""
    errors = [error for name, table in ruleset.tables.items() if only is None or name in only
              for error in table_errors(table, ruleset.family)]
    if errors:
        raise RuleErrors(errors)


def table_errors(table: Table, family: int) -> Iterator[RuleError]:
    reach: dict[str, int] = {}                      # chain -> bits of the hooks that come to it
    looped = False
    for name, hook in BUILTIN_CHAINS[table.name].items():
        for error in walk(table, name, hook, reach):
            looped = True
            yield error
    if looped:
        return                                      # the kernel stops at a loop, and looks at nothing else
    for chain in table.ordered_chains():
        for position, rule, reached in summarise(chain).restricted:
            hooks = reach.get(chain.name, 0) if reached else 0
            yield from rule_errors(rule, table.name, family, hooks)


def walk(table: Table, start: str, hook: int, reach: dict[str, int]) -> Iterator[RuleError]:
    """Mark all chains that `start` leads to; a chain that leads to itself is a loop."""
    bit = 1 << hook
    path = [start]
    stack = [iter(summarise(table.chains[start]).jumps)]
    inside = {start}
    done: set[str] = set()
    reach[start] = reach.get(start, 0) | bit
    while stack:
        step = next(stack[-1], None)
        if step is None:
            stack.pop()
            name = path.pop()
            inside.discard(name)
            done.add(name)
            continue
        name, rule = step
        if name in inside:
            yield refusal(rule, "ELOOP", f"chain {name} leads back to itself")
            continue
        if name in done or name not in table.chains:
            continue
        reach[name] = reach.get(name, 0) | bit
        path.append(name)
        inside.add(name)
        stack.append(iter(summarise(table.chains[name]).jumps))


def rule_errors(rule: Rule, table: str, family: int, hooks: int) -> Iterator[RuleError]:
    """The first refusal of each match from left to right, then of the target."""
    for use in rule.matches:
        if use.ext.restricted:
            yield from use_errors(use, rule, table, family, hooks)
    if type(rule.target) is Use and rule.target.ext.restricted:
        yield from use_errors(rule.target, rule, table, family, hooks)


def use_errors(use: Use, rule: Rule, table: str, family: int, hooks: int) -> Iterator[RuleError]:
    ext, only = use.ext, use.ext.only
    kind = "match" if ext.kind == MATCH else "target"
    head = f"x_tables: {'ip' if family == 2 else 'ip6'}_tables: {ext.name} {kind}: "
    if only.tables and table not in only.tables:
        yield refusal(rule, "EINVAL", f"{head}only valid in {' or '.join(only.tables)} table, not {table}")
        return
    allowed = sum(1 << hook for hook in only.hooks)
    if only.hooks and hooks & ~allowed:
        used = hook_list(hooks)
        verb = "valid" if kind == "match" else "usable"
        yield refusal(rule, "EINVAL", f"{head}used from hooks {used}, but only {verb} from {hook_list(allowed)}")
        return
    if only.protocols and (rule.protocol not in only.protocols or rule.protocol_inverted):
        yield refusal(rule, "EINVAL", f"{head}only valid for protocol {only.protocols[0]}")
        return
    if ext.check is not None:
        try:
            ext.check(use, Place(rule, table, hooks, family))
        except KernelRefusal as refused:
            yield refusal(rule, refused.errno_name, refused.message or f"{head}{ERRNO_TEXT[refused.errno_name].lower()}")


class Place:
    """A rule, and where it stands: what an extension's check may look at."""

    __slots__ = ("rule", "table", "hooks", "family", "protocol", "protocol_inverted", "matches")

    def __init__(self, rule: Rule, table: str, hooks: int, family: int):
        self.rule = rule
        self.table = table
        self.hooks = hooks                  # bits 1 << hook of the hooks that reach it
        self.family = family
        self.protocol = rule.protocol
        self.protocol_inverted = rule.protocol_inverted
        self.matches = rule.matches


def hook_list(bits: int) -> str:
    return "/".join(name for i, name in enumerate(HOOK_NAMES) if bits >> i & 1)


def refusal(rule: Rule, errno_name: str, message: str) -> RuleError:
    text = rule_text(rule).strip()
    return RuleError(message, Span(rule.file or "<command>", rule.line, 1, len(text), text), OTHER_PROBLEM, errno_name=errno_name)
