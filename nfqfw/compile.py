"""Ruleset -> Program: flat arrays, no Python objects, no pointers.  The layout is that of _program.pxd.

A rule that this build cannot evaluate is refused here, with its file and line: it is never taken as true, false or absent.
What was compiled stays readable: a Program keeps, beside its block, which Rule and Chain each row and counter belong to.
"""

from __future__ import annotations

import gc
import struct
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field

from nfqfw import indexing
from nfqfw._layout import FEATURES, Layout
from nfqfw.errors import RuleErrors
from nfqfw.ext.lowering import Named
from nfqfw.rules.model import Chain, Rule, Ruleset

TABLES = ("raw", "mangle", "nat", "filter", "security")
HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
FAMILIES = (2, 10)

MAGIC, VERSION = 0x6E665150, 1
NONE = 0xFFFFFFFF
HEADER = struct.Struct("<IIQ14I50I2I")
CHAIN_ROW = struct.Struct("<8I")
RULE_ROW = struct.Struct("<IHHIIII")
TEST_ROW = struct.Struct("<HHIII")
POLICY = {"DROP": 0, "ACCEPT": 1}                    # Verdict


@dataclass(frozen=True, slots=True)
class ChainInfo:
    """A compiled chain: what its row number means."""

    family: int
    table: str
    chain: Chain
    policy_counter: int = NONE


@dataclass(frozen=True, slots=True)
class NamedUse:
    """A table of recent, hashlimit or connlimit that rules need; tests know it by its place in Program.named."""

    key: tuple[str, str, int] | None                 # match, name, family; None = private to one rule
    configs: list[bytes]                             # different ones, in the order of the rules: the first makes the table
    row: int                                         # rule row of a private one


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled ruleset.  `block` is all that queue threads see."""

    block: bytes
    generation: int
    state_image: bytes                               # what the rule state starts as
    n_counters: int
    chains: tuple[ChainInfo, ...]                    # by chain number
    rules: tuple[Rule, ...]                          # by rule row; counter of rule row r is r
    rule_chain: tuple[int, ...]                      # chain number of each rule row
    features: dict[int, frozenset[str]]              # by family
    used_hooks: dict[int, frozenset[tuple[str, str]]] = field(default_factory=dict)   # (table, hook) with a rule or DROP policy
    states: tuple[tuple[int, int, int], ...] = ()    # (rule row, offset, bytes) of every state in the rule-state memory
    named: tuple[NamedUse, ...] = ()


class Compiler:
    """Lays out one Program; one use each."""

    def __init__(self, generation: int, index_from: int) -> None:
        self.generation = generation
        self.index_from = index_from
        self.layout = Layout()
        self.named: list[NamedUse] = []
        self.named_numbers: dict[tuple[str, str, int], int] = {}
        self.chain_rows: list[list[int]] = []
        self.chains: list[ChainInfo] = []
        self.rules: list[Rule] = []
        self.rule_chain: list[int] = []
        self.numbers: dict[tuple[int, str], dict[str, int]] = {}     # family, table -> chain -> number
        self.base = [NONE] * 50
        self.features: dict[int, set[str]] = {2: set(), 10: set()}
        self.used: dict[int, set[tuple[str, str]]] = {2: set(), 10: set()}
        self.depth = 0

    def number_chains(self, ruleset: Ruleset) -> None:
        """Give every chain of the family its number, built-in chains their place in base[]."""
        family_index = FAMILIES.index(ruleset.family)
        for table_number, table_name in enumerate(TABLES):
            table = ruleset.tables.get(table_name)
            if table is None:
                continue
            users = 0
            numbers = self.numbers[ruleset.family, table_name] = {}
            for name, chain in table.chains.items():
                number = numbers[name] = len(self.chains)
                self.chains.append(ChainInfo(ruleset.family, table_name, chain))
                hook = HOOKS.index(name) if chain.policy is not None else NONE
                policy = POLICY[chain.policy] if chain.policy is not None else 0
                self.chain_rows.append([0, len(chain.rules), policy, NONE, table_number, ruleset.family, hook, 0])
                if hook == NONE:
                    users += 1
                    continue
                self.base[family_index * 25 + table_number * 5 + hook] = number
                if chain.rules or chain.policy == "DROP":
                    self.used[ruleset.family].add((table_name, name))
            self.depth = max(self.depth, users)

    def add_rules(self, ruleset: Ruleset) -> None:
        for (family, table_name), numbers in self.numbers.items():
            if family != ruleset.family:
                continue
            for number in numbers.values():
                rules = self.chains[number].chain.rules
                first = self.chain_rows[number][0] = len(self.rules)
                boxes = indexing.Boxes(family) if len(rules) >= self.index_from else None
                self.features[family] |= self.layout.add_rules(rules, table_name, numbers, boxes, self.number_named)
                self.rules += rules
                self.rule_chain += [number] * len(rules)
                if boxes is not None and not self.layout.errors:
                    self.chain_rows[number][7] = self.layout.append(boxes.build(first))

    def number_named(self, named: Named, row: int) -> int:
        """Place of a named table in Program.named."""
        key = (named.kind, named.name, named.family) if named.name else None
        number = self.named_numbers.get(key) if key else None
        if number is None:
            number = len(self.named)
            self.named.append(NamedUse(key, [named.config], row))
            if key:
                self.named_numbers[key] = number
        elif named.config not in self.named[number].configs:
            self.named[number].configs.append(named.config)
        return number

    def finish(self) -> Program:
        layout = self.layout
        if layout.errors:
            raise RuleErrors(layout.errors)
        counters = len(self.rules)
        chains = []
        for info, row in zip(self.chains, self.chain_rows, strict=True):
            if info.chain.policy is not None:
                row[3] = counters
                counters += 1
            chains.append(ChainInfo(info.family, info.table, info.chain, row[3]))
        rules, tests, data = layout.sections()
        sections = [b"".join(CHAIN_ROW.pack(*row) for row in self.chain_rows), rules, tests]
        offsets, at = [], HEADER.size
        for section in sections:
            offsets.append(at)
            at += len(section) + (-len(section) % 8)
        features = [sum(FEATURES[name] for name in self.features[family]) for family in FAMILIES]
        header = HEADER.pack(
            MAGIC, VERSION, self.generation, at + len(data), offsets[0], len(self.chains), offsets[1], len(self.rules),
            offsets[2], layout.n_tests, at, len(data), counters, len(layout.state), self.depth, 0, 0, *self.base, *features)
        padded = (part for section in sections for part in (section, b"\0" * (-len(section) % 8)))
        return Program(
            block=b"".join((header, *padded, data)), generation=self.generation, state_image=bytes(layout.state),
            n_counters=counters, chains=tuple(chains), rules=tuple(self.rules), rule_chain=tuple(self.rule_chain),
            features={family: frozenset(self.features[family]) for family in FAMILIES},
            used_hooks={family: frozenset(self.used[family]) for family in FAMILIES}, states=tuple(layout.states), named=tuple(self.named))


def compile_rulesets(rulesets: Iterable[Ruleset], generation: int = 1, index_from: int | None = None) -> Program:
    """Program of at most one Ruleset per family, which `rules.check` has passed.

    Chains of at least index_from rules get an index (None: as the environment says, see indexing); it changes nothing but time.
    Raises RuleErrors naming every rule that this build cannot evaluate ("not evaluated yet", "not possible").
    """
    if index_from is None:
        index_from = indexing.FROM if indexing.wanted() else NONE
    compiler = Compiler(generation, index_from)
    rulesets = list(rulesets)
    with no_collection():
        for ruleset in rulesets:
            compiler.number_chains(ruleset)
        for ruleset in rulesets:
            compiler.add_rules(ruleset)
        return compiler.finish()


@contextmanager
def no_collection():
    """No garbage collection meanwhile: hundreds of thousands of live objects would be searched again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
