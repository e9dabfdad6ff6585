"""What every rule and policy has counted: the counts it began with, and those of the Program in force.

Overview.  A queue thread counts from zero in each Program that was compiled whole.  When one is replaced its final counts are
folded in here; a read adds the live ones.  An edited Program (delta.py) goes on with the counters of the one before it.  What goes on counting is told by identity (rules/model.py): a Rule, or the PolicyCount of a
built-in chain, that is the same object in the new ruleset keeps its counts, a new object starts at what it carries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Count = tuple[int, int]         # packets, bytes


class Ledger:
    """Counts of one Program and of all before it.  Not locked: the control role's lock covers it."""

    def __init__(self) -> None:
        self.owners: list = []                          # by counter number: Rule or PolicyCount; kept alive, ids are keys
        self.base: list[Count] = []
        self.numbers: dict[int, int] = {}               # id(owner) -> counter number
        self.parked: dict[int, tuple[object, Count]] = {}       # id(owner) -> owner of a ruleset that is not compiled

    def turn(self, program, final: Sequence[Count], parked: Iterable = ()) -> None:
        """Go over to `program`; `final` is what the one before it counted in all (nothing for the first).

        `parked` are owners that the Program does not count (a ruleset that is empty for the engine) but that go on existing.
        """
        total = self.total(final)
        owners = program.owners()
        base = [self.carried(owner, total) for owner in owners]
        self.parked = {id(owner): (owner, self.carried(owner, total)) for owner in parked}
        self.numbers = {id(owner): number for number, owner in enumerate(owners)}
        self.owners, self.base = owners, base

    def edit(self, removed: Iterable, added: Iterable) -> None:
        """Go over to an edit of the Program, whose counters go on: these no longer count, these have the next counters."""
        for owner in removed:
            del self.numbers[id(owner)]
        for owner in added:
            self.numbers[id(owner)] = len(self.owners)
            self.owners.append(owner)
            self.base.append((owner.packets, owner.bytes))

    def carried(self, owner, total: list[Count]) -> Count:
        """Counts an owner brings into a new Program."""
        number = self.numbers.get(id(owner))
        if number is not None:
            return total[number]
        if id(owner) in self.parked:
            return self.parked[id(owner)][1]
        predecessor = getattr(owner, "continues", None)         # -E made a new rule of it
        if predecessor is None:
            return owner.packets, owner.bytes
        owner.continues = None                                  # told once; do not keep a chain of old rules alive
        return self.carried(predecessor, total)

    def total(self, live: Sequence[Count]) -> list[Count]:
        """Base + live, by counter number."""
        if not live:
            return self.base
        return [(packets + base_packets, size + base_size)
                for (packets, size), (base_packets, base_size) in zip(live, self.base, strict=True)]

    def by_owner(self, live: Sequence[Count]) -> dict[int, Count]:
        """Counts of every owner by its id()."""
        counts = {key: count for key, (_, count) in self.parked.items()}
        total = self.total(live)
        counts.update((key, total[number]) for key, number in self.numbers.items())
        return counts
