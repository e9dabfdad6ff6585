"""Small edits of a large ruleset: a Program that shares all but what changed with the one before it.

Overview.  A compiled block has room behind its rules, tests and data (compile.Room).  The rules that an edit adds go there, where
no Program in force looks; the edited chain becomes a list of runs of rows: those of its old rules that stay, in their order, with
the new ones between.  The chain's index still finds the old ones, the new ones are walked one by one (_fastpath.pyx).  Header,
chain rows and runs are the new Program's own (`head`), a few KiB.  What a packet meets, and every counter, is what compiling the
whole ruleset gives; tests/engine/test_delta.py holds it.

Counters go on: a rule's row and counter stay what they are.  What has no place in this scheme is compiled whole: another set of
chains, a policy, a rule with a table of its own (recent, hashlimit, connlimit), more than there is room for.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from nfqfw._layout import Layout
from nfqfw.compile import CHAIN_ROW, FAMILIES, HEADER, NONE, RULE_ROW, TEST_ROW, Program, feature_bits
from nfqfw.errors import RuleErrors
from nfqfw.ext.timeouts import policies_of
from nfqfw.limits import EDIT_RUNS
from nfqfw.rules._rule import common_ends
from nfqfw.rules.model import Chain, Rule, Ruleset

RUN = struct.Struct("<3I")
Rows = tuple[tuple[int, int], ...]


class TooMuch(Exception):
    """The edit is none of those that can be made so."""


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to one chain: `removed` of its rules from position `at` on, and `added` in their place."""

    number: int
    chain: Chain
    at: int
    removed: list[Rule]
    added: list[Rule]


@dataclass(frozen=True, slots=True)
class Edit:
    """An edited Program, and what its counters no longer count and count as well."""

    program: Program
    removed: list[Rule]
    added: list[Rule]                                # in the order of their counters, which are the last ones


def edit_program(program: Program, rulesets: Iterable[Ruleset], generation: int) -> Edit | None:
    """The Program of these rulesets as an edit of `program`; None: compile them.

    Program and result share memory that the next edit writes to: of two edits of one Program only one may come into force.
    Raises RuleErrors as compile_rulesets does.
    """
    if not program.room.rules:
        return None
    try:
        changes = list(changed_chains(program, rulesets))
        return Editing(program, generation).apply(changes)
    except TooMuch:
        return None


# ---- what changed --------------------------------------------------------------------------------------------------------

def changed_chains(program: Program, rulesets: Iterable[Ruleset]) -> Iterator[Change]:
    """Every chain that differs.  TooMuch: tables, chains or policies do too."""
    seen = 0
    for ruleset in rulesets:
        for table in ruleset.tables.values():
            numbers = program.numbers.get((ruleset.family, table.name))
            if numbers is None or numbers.keys() != table.chains.keys():
                raise TooMuch
            seen += 1
            for name, chain in table.chains.items():
                old = program.chains[numbers[name]].chain
                if chain is old:
                    continue
                if chain.policy != old.policy or (chain.policy is not None and chain.count is not old.count):
                    raise TooMuch
                yield change_of(numbers[name], old, chain, program.room.rules)
    if seen != len(program.numbers):
        raise TooMuch


def change_of(number: int, old: Chain, new: Chain, most: int) -> Change:
    """The rules between those that both begin with and those that both end with."""
    before, after = old.rules, new.rules
    at, end = common_ends(before, after)
    removed, added = before[at:len(before) - end], after[at:len(after) - end]
    if len(removed) + len(added) > most:
        raise TooMuch
    return Change(number, new, at, removed, added)


def cut(rows: Rows, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The rows of the rules at positions begin to end."""
    for first, rules in rows:
        low, high = max(begin, 0), min(end, rules)
        if low < high:
            yield first + low, high - low
        begin, end = begin - rules, end - rules


def joined(rows: Iterable[tuple[int, int]], compiled: int) -> Rows:
    """Runs that follow one another as one; those that the index may know stay apart from the others."""
    out: list[tuple[int, int]] = []
    for first, rules in rows:
        if out and sum(out[-1]) == first != compiled:
            out[-1] = out[-1][0], out[-1][1] + rules
        else:
            out.append((first, rules))
    return tuple(out) or ((0, 0),)


# ---- the new Program -----------------------------------------------------------------------------------------------------

class Editing:
    """Makes one edit of `program`."""

    def __init__(self, program: Program, generation: int) -> None:
        self.program = program
        self.generation = generation
        self.header = list(HEADER.unpack_from(program.head or program.block))
        self.policies = sum(info.policy_counter != NONE for info in program.chains)
        self.layout = Layout(len(program.rules), self.header[9], self.header[11], len(program.state_image), self.policies)
        self.chains = list(program.chains)
        self.runs = dict(program.runs)
        self.needs = {family: Counter(counts) for family, counts in program.needs.items()}
        self.policy_uses = Counter(program.policy_uses)
        self.spans = list(program.state_spans)
        self.rule_chain: list[int] = []
        self.added: list[Rule] = []
        self.removed: list[Rule] = []

    def apply(self, changes: list[Change]) -> Edit:
        for change in changes:
            self.change(change)
        if self.layout.errors:
            raise RuleErrors(self.layout.errors)
        if sum(len(self.runs[number]) for number in self.runs) > EDIT_RUNS:
            raise TooMuch
        self.fill_room()
        program = self.program
        edited = replace(
            program, generation=self.generation, state_image=program.state_image + bytes(self.layout.state),
            n_counters=program.n_counters + len(self.added), chains=tuple(self.chains), rules=program.rules + tuple(self.added),
            rule_chain=program.rule_chain + tuple(self.rule_chain), needs=self.needs, runs=self.runs,
            policy_uses=self.policy_uses,
            features={family: frozenset(self.needs[family]) for family in FAMILIES},
            used_hooks={family: self.used_hooks(family) for family in FAMILIES},
            states=program.states + tuple(self.layout.states), state_spans=tuple(self.spans), head=self.head())
        return Edit(edited, self.removed, self.added)

    def change(self, change: Change) -> None:
        info = self.chains[change.number]
        numbers = self.program.numbers[info.family, info.table]
        first, state = len(self.program.rules) + len(self.added), len(self.layout.state)
        self.needs[info.family] += Counter(self.layout.add_rules(change.added, info.table, numbers, None, self.no_table))
        self.needs[info.family] -= Counter(Layout().add_rules(change.removed, info.table, numbers, None, self.no_table))
        if info.table == "raw":
            self.policy_uses += Counter(policies_of(change.added))
            self.policy_uses -= Counter(policies_of(change.removed))
        if len(self.layout.state) != state:
            self.spans.append((info.family, info.table, len(self.program.state_image) + state, len(self.layout.state) - state))
        rows = self.program.rows(change.number)
        length = sum(rules for _, rules in rows)
        self.runs[change.number] = joined((*cut(rows, 0, change.at), *([(first, len(change.added))] if change.added else []),
                                           *cut(rows, change.at + len(change.removed), length)), self.program.compiled)
        self.chains[change.number] = replace(info, chain=change.chain)
        self.rule_chain += [change.number] * len(change.added)
        self.added += change.added
        self.removed += change.removed

    @staticmethod
    def no_table(named, row: int) -> int:
        raise TooMuch

    def used_hooks(self, family: int) -> frozenset[tuple[str, str]]:
        """As Compiler.number_chains says it."""
        return frozenset((info.table, info.chain.name) for info in self.chains
                         if info.family == family and info.chain.policy is not None and (info.chain.rules or info.chain.policy == "DROP"))

    def fill_room(self) -> None:
        """Put the new rows behind those in use.  TooMuch: there is no room, and nothing was written."""
        block, room, layout = self.program.block, self.program.room, self.layout
        rules, tests, data = layout.sections()
        first = HEADER.unpack_from(block)
        for number, bytes_each, most in ((7, RULE_ROW.size, room.rules), (9, TEST_ROW.size, room.tests), (11, 1, room.data)):
            new = len((rules, tests, data)[(number - 7) // 2])
            if self.header[number] * bytes_each + new > (first[number] + most) * bytes_each:
                raise TooMuch
        for number, bytes_each, section in ((7, RULE_ROW.size, rules), (9, TEST_ROW.size, tests), (11, 1, data)):
            at = self.header[number - 1] + self.header[number] * bytes_each
            block[at:at + len(section)] = section
            self.header[number] += len(section) // bytes_each

    def head(self) -> bytes:
        """Header, chain rows, runs."""
        block, chains = self.program.block, self.header[5]
        source, at = (self.program.head or block), self.header[4]
        rows = bytearray(source[at:at + chains * CHAIN_ROW.size])
        runs, offset = [], HEADER.size + len(rows)
        for number, pieces in self.runs.items():
            row = list(CHAIN_ROW.unpack_from(rows, number * CHAIN_ROW.size))
            row[8:] = offset + RUN.size * len(runs), len(pieces)
            CHAIN_ROW.pack_into(rows, number * CHAIN_ROW.size, *row)
            runs += [RUN.pack(first, rules, first < self.program.compiled) for first, rules in pieces]
        self.header[2:4] = self.generation, offset + RUN.size * len(runs)
        self.header[4] = HEADER.size
        self.header[12:14] = self.program.n_counters + len(self.added), len(self.program.state_image) + len(self.layout.state)
        self.header[-2:] = [feature_bits(self.needs[family]) for family in FAMILIES]
        return HEADER.pack(*self.header) + bytes(rows) + b"".join(runs)
