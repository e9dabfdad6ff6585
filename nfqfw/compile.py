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

from nfqfw import indexing, ops
from nfqfw.errors import RuleError, RuleErrors
from nfqfw.ext.lowering import Action, Named, Unevaluated
from nfqfw.rules.lower import lower_numbered
from nfqfw.rules.model import Chain, Jump, Rule, Ruleset, Standard

TABLES = ("raw", "mangle", "nat", "filter", "security")
HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
FAMILIES = (2, 10)
FEATURES = {"conntrack": 1, "defrag": 2, "nat": 4, "rewrites": 8, "payload": 16, "reroutes": 32, "acct": 64}

MAGIC, VERSION = 0x6E665150, 1
NONE = 0xFFFFFFFF
HEADER = struct.Struct("<IIQ14I50I2I")
CHAIN_ROW = struct.Struct("<8I")
RULE_ROW = struct.Struct("<IHHIIII")
TEST_ROW = struct.Struct("<HHIII")
STANDARD = {"ACCEPT": 1, "DROP": 2, "RETURN": 3, "QUEUE": 4}
JUMP, GOTO, EXTENSION = 5, 6, 16
POLICY = {"DROP": 0, "ACCEPT": 1}                    # Verdict
OPCODES = {name: number for number, name in enumerate(ops.TESTS)}
ACTION_CODES = {name: number for number, name in enumerate(ops.ACTIONS)}


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
    test_match: tuple[int, ...]                      # per test row: 0 = the rule's own part, n = its n-th match
    features: dict[int, frozenset[str]]              # by family
    used_hooks: dict[int, frozenset[tuple[str, str]]] = field(default_factory=dict)   # (table, hook) with a rule or DROP policy
    states: tuple[tuple[int, int, int], ...] = ()    # (rule row, offset, bytes) of every state in the rule-state memory
    named: tuple[NamedUse, ...] = ()


class Compiler:
    """Lays out one Program; one use each."""

    def __init__(self, generation: int, index_from: int) -> None:
        self.generation = generation
        self.index_from = index_from
        self.data = bytearray(b"\0" * 8)             # offset 0 stays unused: it can mean "none"
        self.interned: dict[bytes, int] = {b"": 0}
        self.lowered: dict = {}                      # see lower_numbered
        self.state = bytearray()
        self.states: list[tuple[int, int, int]] = []
        self.named: list[NamedUse] = []
        self.named_numbers: dict[tuple[str, str, int], int] = {}
        self.tests = bytearray()
        self.rows = bytearray()
        self.chain_rows: list[list[int]] = []
        self.chains: list[ChainInfo] = []
        self.rules: list[Rule] = []
        self.rule_chain: list[int] = []
        self.test_match: list[int] = []
        self.numbers: dict[tuple[int, str, str], int] = {}
        self.base = [NONE] * 50
        self.features: dict[int, set[str]] = {2: set(), 10: set()}
        self.used: dict[int, set[tuple[str, str]]] = {2: set(), 10: set()}
        self.depth = 0
        self.errors: list[RuleError] = []

    def intern(self, info: bytes) -> int:
        """Offset of these bytes in data, 8-byte aligned; equal infos share one place."""
        offset = self.interned.get(info)
        if offset is None:
            offset = self.interned[info] = len(self.data)
            self.data += info + b"\0" * (-len(info) % 8)
        return offset

    def append(self, block: bytes) -> int:
        """Offset of a block of its own in data, 8-byte aligned."""
        offset = len(self.data)
        self.data += block + b"\0" * (-len(block) % 8)
        return offset

    def number_chains(self, ruleset: Ruleset) -> None:
        """Give every chain of the family its number, built-in chains their place in base[]."""
        family_index = FAMILIES.index(ruleset.family)
        for table_number, table_name in enumerate(TABLES):
            table = ruleset.tables.get(table_name)
            if table is None:
                continue
            users = 0
            for name, chain in table.chains.items():
                number = len(self.chains)
                self.numbers[ruleset.family, table_name, name] = number
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
        for table_name in TABLES:
            table = ruleset.tables.get(table_name)
            if table is None:
                continue
            for name, chain in table.chains.items():
                number = self.numbers[ruleset.family, table_name, name]
                first = self.chain_rows[number][0] = len(self.rules)
                boxes = indexing.Boxes(ruleset.family) if len(chain.rules) >= self.index_from else None
                for position, rule in enumerate(chain.rules, 1):
                    self.add_rule(rule, ruleset.family, table_name, number, position, boxes)
                if boxes is not None and not self.errors:
                    self.chain_rows[number][7] = self.append(boxes.build(first))

    def add_rule(self, rule: Rule, family: int, table: str, chain: int, position: int,
                 boxes: indexing.Boxes | None) -> None:
        row = len(self.rules)
        self.rules.append(rule)
        self.rule_chain.append(chain)
        tests, numbers, target, features = lower_numbered(rule, self.lowered)
        if Unevaluated in map(type, tests) or type(target) is Unevaluated:
            self.errors.extend(RuleError(part.reason, rule.span) for part in (*tests, target) if isinstance(part, Unevaluated))
            return
        unknown = [test.op for test in tests if test.op not in OPCODES]
        if isinstance(target, Action) and target.op not in ACTION_CODES:
            unknown.append(target.op)
        if unknown:                                  # lowered, but the matcher of this build has no such opcode
            self.errors.extend(RuleError(f"not evaluated yet: {op}", rule.span) for op in unknown)
            return
        if features:
            self.features[family] |= features
        first = len(self.test_match)
        invariant = True
        for test, number in zip(tests, numbers):
            op, info, _, flag, state, _, named = test
            if named is not None:
                if table in named.refused_in:
                    self.errors.append(RuleError(f"not evaluated yet: match {named.kind} in table {table}", rule.span))
                info = struct.pack("<I", self.number_named(named)) + info[4:]
            invariant &= flag
            self.tests += TEST_ROW.pack(OPCODES[op], flag, self.intern(info), self.keep(state) if state else NONE, number)
        self.test_match += numbers
        if boxes is not None:
            boxes.add(tests)
        code, argument = self.target(target, family, table)
        self.rows += RULE_ROW.pack(first, len(tests), code, argument, row, int(invariant), position)

    def keep(self, image: bytes) -> int:
        """Offset of a test's state in the rule-state memory, 8-byte aligned."""
        offset = len(self.state)
        self.states.append((len(self.rules) - 1, offset, len(image)))
        self.state += image + b"\0" * (-len(image) % 8)
        return offset

    def number_named(self, named: Named) -> int:
        """Place of a named table in Program.named."""
        key = (named.kind, named.name, named.family) if named.name else None
        number = self.named_numbers.get(key) if key else None
        if number is None:
            number = len(self.named)
            self.named.append(NamedUse(key, [named.config], len(self.rules) - 1))
            if key:
                self.named_numbers[key] = number
        elif named.config not in self.named[number].configs:
            self.named[number].configs.append(named.config)
        return number

    def target(self, target: object, family: int, table: str) -> tuple[int, int]:
        """(RuleTarget, target_arg) of what lower_rule says: None, Standard, Jump or Action."""
        if target is None:
            return 0, 0
        if isinstance(target, Standard):
            return STANDARD[target.name], 0
        if isinstance(target, Jump):
            return (GOTO if target.goto else JUMP), self.numbers[family, table, target.chain]
        return EXTENSION + ACTION_CODES[target.op], self.intern(target.info)

    def finish(self) -> Program:
        if self.errors:
            raise RuleErrors(self.errors)
        counters = len(self.rules)
        chains = []
        for info, row in zip(self.chains, self.chain_rows, strict=True):
            if info.chain.policy is not None:
                row[3] = counters
                counters += 1
            chains.append(ChainInfo(info.family, info.table, info.chain, row[3]))
        sections = [b"".join(CHAIN_ROW.pack(*row) for row in self.chain_rows), bytes(self.rows), bytes(self.tests)]
        offsets, at = [], HEADER.size
        for section in sections:
            offsets.append(at)
            at += len(section) + (-len(section) % 8)
        features = [sum(FEATURES[name] for name in self.features[family]) for family in FAMILIES]
        header = HEADER.pack(
            MAGIC, VERSION, self.generation, at + len(self.data), offsets[0], len(self.chains), offsets[1], len(self.rules),
            offsets[2], len(self.test_match), at, len(self.data), counters, len(self.state), self.depth, 0, 0,
            *self.base, *features)
        body = b"".join(section + b"\0" * (-len(section) % 8) for section in sections)
        return Program(
            block=header + body + bytes(self.data), generation=self.generation, state_image=bytes(self.state),
            n_counters=counters, chains=tuple(chains), rules=tuple(self.rules), rule_chain=tuple(self.rule_chain),
            test_match=tuple(self.test_match),
            features={family: frozenset(self.features[family]) for family in FAMILIES},
            used_hooks={family: frozenset(self.used[family]) for family in FAMILIES}, states=tuple(self.states), named=tuple(self.named))


def compile_rulesets(rulesets: Iterable[Ruleset], generation: int = 1, index_from: int = indexing.FROM) -> Program:
    """Program of at most one Ruleset per family, which `rules.check` has passed.

    Chains of at least index_from rules get an index; it changes nothing but time.  Raises RuleErrors naming every rule that this build cannot evaluate ("not evaluated yet", "not possible").
    """
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
