"""The rulesets in force: the Store (rules/store.py) that applet commands read and change when a daemon runs.

A commit is: whole-table checks were made by the command; compile both families to one Program (which refuses what this build
cannot evaluate); hand it to the evaluator, which returns when every queue thread judges by it; fold the old counts.  Any
failure before the hand-over leaves everything as it was.

A small change of a large ruleset is made as an edit of the Program in force (delta.py).  Edits cost the packets a little, so
`settle` compiles all of it again in the background once no more have come for a while.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from nfqfw.compile import Program
from nfqfw.daemon.ledger import Count, Ledger
from nfqfw.delta import edit_program
from nfqfw.errors import OTHER_PROBLEM, RESOURCE_PROBLEM, NfqfwError, RuleError, RuleErrors
from nfqfw.limits import EDIT_SETTLE_SECONDS
from nfqfw.rules.model import Chain, PolicyCount, Ruleset, Table

FAMILIES = (2, 10)


class Evaluator(Protocol):
    """What judges packets by a Program.  Live: `nfqfw.daemon.evaluator`; tests have a counting one."""

    def load(self, program, kept: frozenset[tuple[int, str]]) -> Sequence[Count] | None:
        """Judge by `program` from now on, in every thread; returns the final counts of the one before ([] for the first).

        None: `program` is an edit of the one before, and its counters go on.  Rules of the `kept` tables (family, name) keep their state.
        """

    def counters(self) -> Sequence[Count]:
        """(packets, bytes) so far by counter number of the Program in force; [] if it counts nothing."""


class LiveStore:
    """Both rulesets in force, their counts, and the way to change them."""

    def __init__(self, evaluator: Evaluator, compile_rulesets: Callable[[list[Ruleset], int], object]) -> None:
        self.evaluator = evaluator
        self.compile = compile_rulesets
        self.lock = threading.Lock()
        self.rulesets = {family: Ruleset(family) for family in FAMILIES}
        self.ledger = Ledger()
        self.generation = 0
        self.program: Program | None = None             # in force; None also where that is not certain
        self.edited_at = 0.0                            # CLOCK_MONOTONIC s of the last edit

    @property
    def policies(self) -> Mapping | None:
        """Time-out policies that CT rules may name."""
        flows = getattr(self.evaluator, "flows", None)
        return flows.policies if flows is not None else None

    def policies_used(self) -> frozenset[str]:
        """Names of those that rules in force name."""
        program = self.evaluator.program
        return program.policies if program is not None else frozenset()

    @contextmanager
    def transaction(self, write: bool) -> Iterator[None]:
        """One command at a time, readers too: a listing with counts must not see half of a swap."""
        with self.lock:
            yield

    def ruleset(self, family: int) -> Ruleset:
        return self.rulesets[family]

    def counted(self, family: int) -> Ruleset:
        return with_counts(self.rulesets[family], self.counts())

    def commit(self, changed: Mapping[int, Ruleset], counted: bool = False) -> dict[int, Ruleset]:
        """Put these rulesets in force, all at once.  NfqfwError: nothing has changed."""
        try:
            return self.put(changed, counted)
        except RuleErrors as errors:                    # not a mistake in the command's text: the tool's hint would mislead
            raise NfqfwError("\n".join(map(place_and_reason, errors)), code=OTHER_PROBLEM) from None
        except OSError as error:
            raise NfqfwError(f"{error.filename or 'nfqfw'}: {error.strerror or error}", code=RESOURCE_PROBLEM) from None

    def put(self, changed: Mapping[int, Ruleset], counted: bool = False) -> dict[int, Ruleset]:
        """The same, for rules that were not given by a command; RuleErrors keep their places."""
        before = self.rulesets
        wanted = {**before, **changed}
        compiled = [ruleset for ruleset in wanted.values() if not ruleset.is_empty()]
        edit = edit_program(self.program, compiled, self.generation + 1) if self.program is not None and not counted else None
        program = edit.program if edit is not None else self.compile(compiled, self.generation + 1)
        final = self.hand_over(program, unchanged(before, wanted))
        old = {}
        if counted:
            counts = self.ledger.by_owner(final)
            old = {family: with_counts(before[family], counts) for family in changed}
        self.rulesets = wanted
        if edit is not None:
            self.edited_at = time.monotonic()
        if final is None:
            self.ledger.edit(edit.removed, edit.added)
        else:
            self.ledger.turn(program, final, owners(ruleset for ruleset in wanted.values() if ruleset.is_empty()))
        return old

    def hand_over(self, program, kept: frozenset[tuple[int, str]]) -> Sequence[Count] | None:
        """Have the evaluator judge by it.  After a failure the next Program is compiled whole: memory of edits is shared."""
        self.program = None
        final = self.evaluator.load(program, kept)
        self.generation += 1
        self.program = program
        return final

    def settle(self) -> bool:
        """Compile an edited Program whole, and put that in force; for a thread that has nothing else to do.

        Nothing waits for the compiler: a change that comes meanwhile makes its work void.  False: nothing to do, or not yet.
        """
        with self.lock:
            edited, rulesets, generation = self.program, self.rulesets, self.generation + 1
        if edited is None or not edited.scattered or time.monotonic() - self.edited_at < EDIT_SETTLE_SECONDS:
            return False
        program = self.compile([ruleset for ruleset in rulesets.values() if not ruleset.is_empty()], generation)
        with self.lock:
            if self.program is not edited:
                return False
            final = self.hand_over(program, unchanged(rulesets, rulesets))
            self.ledger.turn(program, final, owners(ruleset for ruleset in rulesets.values() if ruleset.is_empty()))
        return True

    def counts(self) -> dict[int, Count]:
        """(packets, bytes) of every Rule and PolicyCount in force, by its id()."""
        return self.ledger.by_owner(self.evaluator.counters())


def place_and_reason(error: RuleError) -> str:
    """file:line: reason, or the reason alone for a rule that was given on a command line."""
    return f"{error.span.file}:{error.span.line}: {error.message}" if error.span and error.span.file else error.message


def unchanged(before: Mapping[int, Ruleset], wanted: Mapping[int, Ruleset]) -> frozenset[tuple[int, str]]:
    """(family, name) of the tables that are the same objects: their rules keep their state, as where the kernel commits
    another table (spec/iptables.md 4.5)."""
    return frozenset((family, name) for family, ruleset in wanted.items() for name, table in ruleset.tables.items()
                     if before[family].tables.get(name) is table)


def owners(rulesets: Iterable[Ruleset]) -> Iterator:
    """Everything in these rulesets that counts."""
    for ruleset in rulesets:
        for table in ruleset.tables.values():
            for chain in table.chains.values():
                yield from chain.rules
                if chain.policy is not None:
                    yield chain.count


def with_counts(ruleset: Ruleset, counts: Mapping[int, Count]) -> Ruleset:
    """The ruleset with these counts in its rules and policies; for printing only, never to be committed."""
    return Ruleset(ruleset.family, {
        name: Table(name, {chain.name: counted_chain(chain, counts) for chain in table.chains.values()})
        for name, table in ruleset.tables.items()})


def counted_chain(chain: Chain, counts: Mapping[int, Count]) -> Chain:
    rules = []
    for rule in chain.rules:
        count = counts.get(id(rule))
        same = count is None or (count[0] == rule.packets and count[1] == rule.bytes)
        rules.append(rule if same else rule.with_counts(*count))
    policy = PolicyCount(*counts.get(id(chain.count), (chain.packets, chain.bytes)))
    return Chain(chain.name, chain.policy, rules, policy, chain.file, chain.line)
