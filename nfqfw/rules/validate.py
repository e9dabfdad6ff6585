"""Whole-table checks, as the kernel makes them at each commit (spec/iptables.md 3.6).

Every chain is walked from each hook; a rule behind an unconditional verdict is reached by none, so its hooks are not looked at.
What the walk needs to know of a chain is kept in `Chain.summary`, so that a change of one chain does not read the others again.
"""

from __future__ import annotations

from typing import Iterator, Mapping, NamedTuple

from nfqfw.errors import OTHER_PROBLEM, RuleError, RuleErrors, Span
from nfqfw.ext.api import HOOK_NAMES, MATCH, KernelRefusal, Use
from nfqfw.limits import RULES_MAX
from nfqfw.rules.model import BUILTIN_CHAINS, INV_PROTO, Chain, Jump, Rule, Ruleset, Standard, Table
from nfqfw.rules._rule import not_plain
from nfqfw.rules.restore import ERRNO_TEXT, too_many_rules
from nfqfw.rules.saving import rule_text


class Summary(NamedTuple):
    """What matters of a chain, whatever leads to it."""

    jumps: list[tuple[str, Rule]]               # chains it goes on to, from rules in reach of its head
    errors: list[RuleError]                     # refusals that no hook changes
    hooked: list[tuple[Rule, bool]]             # rules with an extension that some hooks refuse; in reach of the head


def summarise(chain: Chain, table: str, family: int) -> Summary:
    if chain.summary is not None:
        return chain.summary
    jumps, errors, hooked = [], [], []
    reached = True
    for rule in not_plain(chain.rules):
        target = rule.target
        kind = type(target)
        plain = False
        if kind is Jump:
            if reached:
                jumps.append((target.chain, rule))
        elif kind is Standard and not rule.matches and rule.is_unconditional():
            reached = False
        else:
            plain = True
        for use in (*rule.matches, target) if kind is Use else rule.matches:
            ext = use.ext
            if not ext.restricted or (ext.protocol_only and rule.protocol in ext.only.protocols and not rule.inverted & INV_PROTO):
                continue
            plain = False
            found = static_error(use, rule, table, family)
            if found is not None:
                errors.append(found)
            elif ext.hooked:
                hooked.append((rule, reached))
                break
        rule.plain = plain
    chain.summary = Summary(jumps, errors, hooked)
    return chain.summary


def check(ruleset: Ruleset, only: list[str] | None = None, policies: Mapping | None = None) -> None:
    """Raise RuleErrors with everything that the kernel would refuse in these tables (all by default).

    policies: the time-out policies there are, by name (conntrack/timeouts.py); None = not known here, any name will do.
    """
    check_size(ruleset)
    errors = [error for name, table in ruleset.tables.items() if only is None or name in only
              for error in table_errors(table, ruleset.family, policies)]
    if errors:
        raise RuleErrors(errors)


def check_size(ruleset: Ruleset) -> None:
    """Raise RuleErrors if it has more rules than we hold."""
    if sum(len(chain.rules) for table in ruleset.tables.values() for chain in table.chains.values()) > RULES_MAX:
        raise RuleErrors([too_many_rules()])


def table_errors(table: Table, family: int, policies: Mapping | None = None) -> Iterator[RuleError]:
    reach: dict[str, int] = {}                      # chain -> bits of the hooks that come to it
    looped = False
    for name, hook in BUILTIN_CHAINS[table.name].items():
        for error in walk(table, name, hook, reach, family):
            looped = True
            yield error
    if looped:
        return                                      # the kernel stops at a loop, and looks at nothing else
    for chain in table.ordered_chains():
        summary = summarise(chain, table.name, family)
        yield from summary.errors
        for rule, reached in summary.hooked:
            yield from hook_errors(Place(rule, table.name, reach.get(chain.name, 0) if reached else 0, family, policies))


def walk(table: Table, start: str, hook: int, reach: dict[str, int], family: int) -> Iterator[RuleError]:
    """Mark all chains that `start` leads to; a chain that leads to itself is a loop."""
    bit = 1 << hook
    path = [start]
    stack = [iter(summarise(table.chains[start], table.name, family).jumps)]
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
        stack.append(iter(summarise(table.chains[name], table.name, family).jumps))


def head_of(use: Use, family: int) -> str:
    kind = "match" if use.ext.kind == MATCH else "target"
    return f"x_tables: {'ip' if family == 2 else 'ip6'}_tables: {use.ext.name} {kind}: "


def static_error(use: Use, rule: Rule, table: str, family: int) -> RuleError | None:
    """Refusals for the table, the protocol, or what the extension itself looks at."""
    ext, only = use.ext, use.ext.only
    if only.tables and table not in only.tables:
        return refusal(rule, "EINVAL", f"{head_of(use, family)}only valid in {' or '.join(only.tables)} table, not {table}")
    if only.protocols and (rule.protocol not in only.protocols or rule.protocol_inverted):
        return refusal(rule, "EINVAL", f"{head_of(use, family)}only valid for protocol {only.protocols[0]}")
    if ext.check is not None and not ext.check_needs_hooks:
        return own_error(use, Place(rule, table, 0, family))
    return None


def hook_errors(place: Place) -> Iterator[RuleError]:
    """Refusals for the hooks that reach the rule: the first of each match from left to right, then of the target."""
    rule, hooks = place.rule, place.hooks
    uses = (*rule.matches, rule.target) if type(rule.target) is Use else rule.matches
    for use in uses:
        ext = use.ext
        if not ext.hooked:
            continue
        allowed = sum(1 << hook for hook in ext.only.hooks)
        if ext.only.hooks and hooks & ~allowed:
            verb = "valid" if ext.kind == MATCH else "usable"
            yield refusal(rule, "EINVAL", f"{head_of(use, place.family)}used from hooks {hook_list(hooks)}, but only {verb} "
                                          f"from {hook_list(allowed)}")
        elif ext.check_needs_hooks:
            found = own_error(use, place)
            if found is not None:
                yield found


def own_error(use: Use, place: Place) -> RuleError | None:
    try:
        use.ext.check(use, place)
    except KernelRefusal as refused:
        text = refused.message or f"{head_of(use, place.family)}{ERRNO_TEXT[refused.errno_name].lower()}"
        return refusal(place.rule, refused.errno_name, text)
    return None


class Place:
    """A rule, and where it stands: what an extension's check may look at."""

    __slots__ = ("rule", "table", "hooks", "family", "protocol", "protocol_inverted", "matches", "policies")

    def __init__(self, rule: Rule, table: str, hooks: int, family: int, policies: Mapping | None = None):
        self.rule = rule
        self.table = table
        self.hooks = hooks                  # bits 1 << hook of the hooks that reach it
        self.family = family
        self.protocol = rule.protocol
        self.protocol_inverted = rule.protocol_inverted
        self.matches = rule.matches
        self.policies = policies            # time-out policies by name, None = not known here


def hook_list(bits: int) -> str:
    return "/".join(name for i, name in enumerate(HOOK_NAMES) if bits >> i & 1)


def refusal(rule: Rule, errno_name: str, message: str) -> RuleError:
    text = rule_text(rule).strip()
    return RuleError(message, Span(rule.file or "<command>", rule.line, 1, len(text), text), OTHER_PROBLEM, errno_name=errno_name)
