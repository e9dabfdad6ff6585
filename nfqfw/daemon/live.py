"""The rulesets in force: the Store that applet commands read and change when a daemon runs.

A commit is: whole-table checks were made by the command; compile both families to one Program (which refuses what this build
cannot evaluate); hand it to the evaluator, which returns when every queue thread judges by it; fold the old counts.  Any
failure before the hand-over leaves everything as it was.  All methods need the control role's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from nfqfw.daemon.ledger import Count, Ledger
from nfqfw.rules.model import Ruleset

FAMILIES = (2, 10)


class Evaluator(Protocol):
    """What judges packets by a Program.  Live: `nfqfw.daemon.evaluator`; tests have a counting one."""

    def load(self, program) -> Sequence[Count]:
        """Judge by `program` from now on, in every thread; returns the final counts of the one before ([] for the first)."""

    def counters(self) -> Sequence[Count]:
        """(packets, bytes) so far by counter number of the Program in force."""


class LiveStore:
    """Both rulesets in force, their counts, and the way to change them."""

    def __init__(self, evaluator: Evaluator, compile_rulesets: Callable[[list[Ruleset], int], object]) -> None:
        self.evaluator = evaluator
        self.compile = compile_rulesets
        self.rulesets = {family: Ruleset(family) for family in FAMILIES}
        self.ledger = Ledger()
        self.generation = 0

    def ruleset(self, family: int) -> Ruleset:
        return self.rulesets[family]

    def commit(self, *changed: Ruleset) -> None:
        """Put these rulesets in force, all at once.  RuleErrors or NfqfwError: nothing has changed."""
        wanted = {**self.rulesets, **{ruleset.family: ruleset for ruleset in changed}}
        compiled = [ruleset for ruleset in wanted.values() if not ruleset.is_empty()]
        program = self.compile(compiled, self.generation + 1)
        final = self.evaluator.load(program)
        self.generation += 1
        self.rulesets = wanted
        self.ledger.turn(program, final, owners(ruleset for ruleset in wanted.values() if ruleset.is_empty()))

    def counts(self) -> dict[int, Count]:
        """(packets, bytes) of every Rule and PolicyCount in force, by its id()."""
        return self.ledger.by_owner(self.evaluator.counters())


def owners(rulesets: Iterable[Ruleset]) -> Iterator:
    """Everything in these rulesets that counts."""
    for ruleset in rulesets:
        for table in ruleset.tables.values():
            for chain in table.chains.values():
                yield from chain.rules
                if chain.policy is not None:
                    yield chain.count
