"""Ruleset -> Program: flat arrays, no Python objects, no pointers.  The layout is that of _program.pxd.

A rule that this build cannot evaluate is refused here, with its file and line: it is never taken as true, false or absent.
What was compiled stays readable: a Program keeps, beside its block, which Rule and Chain each row and counter belong to.
"""

from __future__ import annotations

import gc
import struct
from collections import Counter
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from nfqfw import indexing
from nfqfw._layout import FEATURES, Layout
from nfqfw.errors import RuleErrors
from nfqfw.ext.lowering import Named
from nfqfw.ext.timeouts import policies_of
from nfqfw.limits import AHEAD_RULES, EDIT_BYTES, EDIT_FROM, EDIT_RULES, EDIT_TESTS
from nfqfw.rules.model import Chain, PolicyCount, Rule, Ruleset

TABLES = ("raw", "mangle", "nat", "filter", "security")
HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
FAMILIES = (2, 10)

MAGIC, VERSION = 0x6E665150, 1
NONE = 0xFFFFFFFF
HEADER = struct.Struct("<IIQ14I50I2I")
CHAIN_ROW = struct.Struct("<10I")
RULE_ROW = struct.Struct("<IHHIII")
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


class Room(NamedTuple):
    """What a block has room for, behind what is in use, for the rules of later edits."""

    rules: int
    tests: int
    data: int                                        # bytes


NO_ROOM = Room(0, 0, 0)
EDIT_ROOM = Room(EDIT_RULES, EDIT_TESTS, EDIT_BYTES)


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled ruleset.  `block` is all that queue threads see, and `head` if it is an edit (delta.py)."""

    block: bytearray
    generation: int
    state_image: bytes                               # what the rule state starts as
    n_counters: int
    chains: tuple[ChainInfo, ...]                    # by chain number
    rules: tuple[Rule, ...]                          # by rule row; see owners() for their counters
    rule_chain: tuple[int, ...]                      # chain number of each rule row
    features: dict[int, frozenset[str]]              # by family
    used_hooks: dict[int, frozenset[tuple[str, str]]] = field(default_factory=dict)   # (table, hook) with a rule or DROP policy
    states: tuple[tuple[int, int, int], ...] = ()    # (rule row, offset, bytes) of every state in the rule-state memory
    named: tuple[NamedUse, ...] = ()
    policy_uses: Counter[str] = field(default_factory=Counter)      # time-out policies that CT rules name, and how many do
    numbers: dict[tuple[int, str], dict[str, int]] = field(default_factory=dict)     # family, table -> chain -> number
    needs: dict[int, dict[str, int]] = field(default_factory=dict)  # by family: how many rules need each feature
    state_spans: tuple[tuple[int, str, int, int], ...] = ()         # family, table, offset, bytes: whose rule state lies where
    room: Room = NO_ROOM
    compiled: int = 0                                # rule rows that are no edits
    head: bytes = b""                                # an edit: header, chain rows and runs of its own
    runs: dict[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)       # of edited chains: (first row, rows)

    @property
    def policies(self) -> frozenset[str]:
        """Names of the time-out policies that CT rules give to connections."""
        return frozenset(self.policy_uses)

    @property
    def counters_room(self) -> int:
        """Counters that this Program and all edits of it can have."""
        return self.compiled + sum(info.policy_counter != NONE for info in self.chains) + self.room.rules

    def rows(self, chain: int) -> tuple[tuple[int, int], ...]:
        """Where the rules of a chain are: (first row, rows) in their order."""
        if chain in self.runs:
            return self.runs[chain]
        first, rules, *_ = CHAIN_ROW.unpack_from(self.block, HEADER.unpack_from(self.block)[4] + chain * CHAIN_ROW.size)
        return ((first, rules),)

    @property
    def scattered(self) -> bool:
        """Whether edits cost packets time: a chain in pieces, or rules that no index knows."""
        return any(len(rows) > 1 or rows[0][0] >= self.compiled for rows in self.runs.values())

    def position(self, row: int) -> int:
        """1-based number of a rule in its chain."""
        before = 1
        for first, rules in self.rows(self.rule_chain[row]):
            if first <= row < first + rules:
                return before + row - first
            before += rules
        raise IndexError(f"rule row {row} is in no chain")

    def owners(self) -> list[Rule | PolicyCount]:
        """Whose each counter is, by its number: compiled rules, policies, rules of later edits."""
        policies = {info.policy_counter: info.chain.count for info in self.chains if info.policy_counter != NONE}
        return [*self.rules[:self.compiled], *(policies[number] for number in sorted(policies)), *self.rules[self.compiled:]]


class Compiler:
    """Lays out one Program; one use each."""

    def __init__(self, generation: int, index_from: int, room_from: int) -> None:
        self.generation = generation
        self.room_from = room_from
        self.index_from = index_from
        self.layout = Layout()
        self.named: list[NamedUse] = []
        self.policy_uses: Counter[str] = Counter()
        self.named_numbers: dict[tuple[str, str, int], int] = {}
        self.chain_rows: list[list[int]] = []
        self.chains: list[ChainInfo] = []
        self.rules: list[Rule] = []
        self.rule_chain: list[int] = []
        self.numbers: dict[tuple[int, str], dict[str, int]] = {}     # family, table -> chain -> number
        self.base = [NONE] * 50
        self.needs: dict[int, Counter[str]] = {2: Counter(), 10: Counter()}
        self.state_spans: list[tuple[int, str, int, int]] = []
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
                self.chain_rows.append([0, len(chain.rules), policy, NONE, table_number, ruleset.family, hook, 0, 0, 0])
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
            state = len(self.layout.state)
            for number in numbers.values():
                rules = self.chains[number].chain.rules
                first = self.chain_rows[number][0] = len(self.rules)
                boxes = indexing.Boxes(family) if len(rules) >= self.index_from else None
                self.needs[family] += self.layout.add_rules(rules, table_name, numbers, boxes, self.number_named)
                self.rules += rules
                if table_name == "raw":
                    self.policy_uses.update(policies_of(rules))
                self.rule_chain += [number] * len(rules)
                if boxes is not None and not self.layout.errors:
                    self.chain_rows[number][7] = self.layout.append(boxes.build(first))
            self.state_spans.append((family, table_name, state, len(self.layout.state) - state))

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

    def large(self) -> int:
        """ProgramHeader.large."""
        return AHEAD_RULES if any(row[7] and row[1] >= AHEAD_RULES and row[6] != NONE for row in self.chain_rows) else 0

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
        room = EDIT_ROOM if len(self.rules) >= self.room_from else NO_ROOM
        sections = [b"".join(CHAIN_ROW.pack(*row) for row in self.chain_rows),
                    rules + bytes(room.rules * RULE_ROW.size), tests + bytes(room.tests * TEST_ROW.size)]
        offsets, at = [], HEADER.size
        for section in sections:
            offsets.append(at)
            at += len(section) + (-len(section) % 8)
        features = [feature_bits(self.needs[family]) for family in FAMILIES]
        header = HEADER.pack(
            MAGIC, VERSION, self.generation, at + len(data) + room.data, offsets[0], len(self.chains), offsets[1], len(self.rules),
            offsets[2], layout.n_tests, at, len(data), counters, len(layout.state), self.depth, 0, self.large(), *self.base, *features)
        padded = (part for section in sections for part in (section, b"\0" * (-len(section) % 8)))
        return Program(
            block=bytearray().join((header, *padded, data, bytes(room.data))), generation=self.generation, state_image=bytes(layout.state),
            n_counters=counters, chains=tuple(chains), rules=tuple(self.rules), rule_chain=tuple(self.rule_chain),
            features={family: frozenset(self.needs[family]) for family in FAMILIES},
            used_hooks={family: frozenset(self.used[family]) for family in FAMILIES}, states=tuple(layout.states), named=tuple(self.named), policy_uses=self.policy_uses,
            numbers=self.numbers, needs=self.needs, state_spans=tuple(self.state_spans), room=room, compiled=len(self.rules))


def feature_bits(names: Iterable[str]) -> int:
    """ProgramHeader.features of a family."""
    return sum(FEATURES[name] for name in names)


def compile_rulesets(rulesets: Iterable[Ruleset], generation: int = 1, index_from: int | None = None, room_from: int = EDIT_FROM) -> Program:
    """Program of at most one Ruleset per family, which `rules.check` has passed.

    Chains of at least index_from rules get an index (None: as the environment says, see indexing); it changes nothing but time.
    A Program of at least room_from rules has room for edits (delta.py).
    Raises RuleErrors naming every rule that this build cannot evaluate ("not evaluated yet", "not possible").
    """
    if index_from is None:
        index_from = indexing.FROM if indexing.wanted() else NONE
    compiler = Compiler(generation, index_from, room_from)
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
