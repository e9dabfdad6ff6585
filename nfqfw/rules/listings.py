"""Rulesets as people read them: the forms of -L, and the line that -v prints for a change.  Formats: spec/iptables.md 3.2, 3.4."""

from __future__ import annotations

from nfqfw.ext.names import Resolver, address_text, mask_suffix
from nfqfw.protocols import protocol_name
from nfqfw.rules.model import (INV_DST, INV_FRAG, INV_IN, INV_OUT, INV_PROTO, INV_SRC, Chain, Jump, Rule, Standard,
                               Table)

UNITS = "KMGT"
ANY = {2: "0.0.0.0/0", 10: "::/0"}


class Style:
    """Which form of -L."""

    __slots__ = ("family", "numeric", "verbose", "exact", "line_numbers", "resolver")

    def __init__(self, family=2, numeric=False, verbose=False, exact=False, line_numbers=False, resolver=Resolver()):
        self.family = family
        self.numeric = numeric
        self.verbose = verbose
        self.exact = exact
        self.line_numbers = line_numbers
        self.resolver = resolver


def listing(table: Table, style: Style, chain: str | None = None, number: int = 0) -> str:
    """-L: all chains, one, or one rule of a chain without its headings."""
    if chain is not None and number:
        rules = table.chains[chain].rules
        return rule_line(rules[number - 1], number, style) + "\n" if number <= len(rules) else ""
    chains = table.ordered_chains() if chain is None else [table.chains[chain]]
    counts = reference_counts(table)
    return "\n".join(chain_text(one, counts.get(one.name, 0), style) for one in chains)


def reference_counts(table: Table) -> dict[str, int]:
    """How many rules lead to each chain."""
    counts: dict[str, int] = {}
    for chain in table.chains.values():
        for rule in chain.rules:
            if type(rule.target) is Jump:
                counts[rule.target.chain] = counts.get(rule.target.chain, 0) + 1
    return counts


def chain_text(chain: Chain, references: int, style: Style) -> str:
    lines = [chain_head(chain, references, style), columns_head(style)]
    lines += [rule_line(rule, i, style) for i, rule in enumerate(chain.rules, 1)]
    return "\n".join(lines) + "\n"


def chain_head(chain: Chain, references: int, style: Style) -> str:
    if chain.policy is None:
        return f"Chain {chain.name} ({references} references)"
    counts = f" {amount(chain.packets, style, False)}packets, {amount(chain.bytes, style, False)}bytes" if style.verbose else ""
    return f"Chain {chain.name} (policy {chain.policy}{counts})"


def columns_head(style: Style) -> str:
    out = f"{'num':<4} " if style.line_numbers else ""
    if style.verbose:
        out += f"{'pkts':>8} {'bytes':>10} " if style.exact else f"{'pkts':>5} {'bytes':>5} "
    out += f"{'target':<9}  prot opt"
    if style.verbose:
        out += f" {'in':<6} {'out':<6} "
    return out + f" {'source':<19}  {'destination':<19} "


def amount(number: int, style: Style, in_column: bool = True) -> str:
    """A count with a space behind it: whole with -x, else at most five characters with a unit."""
    if style.exact:
        return f"{number:>8} " if in_column else f"{number} "
    if number <= 99_999:
        return f"{number:>5} " if in_column else f"{number} "
    for unit in UNITS:
        number = (number + 500) // 1000
        if number <= 9_999 or unit == "T":
            break
    return f"{number:>4}{unit} " if in_column else f"{number}{unit} "


def rule_line(rule: Rule, number: int, style: Style) -> str:
    out = f"{number:<4} " if style.line_numbers else ""
    if style.verbose:
        out += amount(rule.packets, style) + amount(rule.bytes, style)
    out += f"{target_name(rule):<9} {'!' if rule.inverted & INV_PROTO else ' '}{protocol_text(rule, style.numeric):<4} {options_text(rule)} "
    if style.verbose:
        out += f" {interface_text(rule.in_interface, rule.inverted & INV_IN, style.numeric):<6} "
        out += f"{interface_text(rule.out_interface, rule.inverted & INV_OUT, style.numeric):<6} "
    out += f"{'!' if rule.inverted & INV_SRC else ' '}{network(rule.source, rule.source_mask, style):<19} "
    out += f"{'!' if rule.inverted & INV_DST else ' '}{network(rule.destination, rule.destination_mask, style):<19} "
    return out + extension_text(rule, style)


def change_line(rule: Rule, style: Style) -> str:
    """What -v prints for a rule that is added, deleted, replaced or checked."""
    return (f"{target_name(rule)} {'!' if rule.inverted & INV_PROTO else ' '}{protocol_text(rule, False)} opt {options_text(rule)} "
            f"in {interface_text(rule.in_interface, rule.inverted & INV_IN, True)} "
            f"out {interface_text(rule.out_interface, rule.inverted & INV_OUT, True)} "
            f"{'!' if rule.inverted & INV_SRC else ' '}{network(rule.source, rule.source_mask, style)} "
            f"{'!' if rule.inverted & INV_DST else ' '}-> {network(rule.destination, rule.destination_mask, style)}  "
            + extension_text(rule, style))


def target_name(rule: Rule) -> str:
    target = rule.target
    if target is None:
        return ""
    if isinstance(target, (Standard, Jump)):
        return target.name
    return target.ext.listed_as or target.ext.name


def protocol_text(rule: Rule, numeric: bool) -> str:
    return protocol_name(rule.protocol, numeric) or str(rule.protocol)


def options_text(rule: Rule) -> str:
    return ("!f" if rule.inverted & INV_FRAG else "-f") if rule.fragment else "--"


def interface_text(name: str, inverted: int, numeric: bool) -> str:
    return ("!" if inverted else "") + (name or ("*" if numeric else "any"))


def network(address: bytes | None, mask: bytes | None, style: Style) -> str:
    if address is None or not any(mask):
        return ANY[style.family] if style.numeric else "anywhere"
    name = None if style.numeric else style.resolver.host(address)
    return (name or address_text(address)) + mask_suffix(mask, always=False)


def extension_text(rule: Rule, style: Style) -> str:
    """Matches and target, a space in front of each; `[goto] ` before them."""
    out = "[goto] " if type(rule.target) is Jump and rule.target.goto else ""
    for use in rule.matches:
        text = use.ext.show(use, style.numeric, style.resolver)
        out += use.ext.listed_behind + text if text else ""
    target = rule.target
    if target is not None and not isinstance(target, (Standard, Jump)):
        text = target.ext.show(target, style.numeric, style.resolver)
        out += " " + text if text else ""
    return out
