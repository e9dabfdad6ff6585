"""Equal, different, or undecided: what a difference means where the kernel itself does not always say the same.

Overview.  Most cases have one right answer, and a difference in one is a difference, whatever the kernel says when it is asked
again.  Two things in a case make the kernel's answer chance, and `chance` finds them in its rules:

    a draw      NAT takes a random port where the tuple is taken.  Two kernels are asked again, several times: only the words,
                counters and fields in which they disagree with each other may be others than ours.
    the clock   `--ctexpire` beside a time-out that was just set, bytes of hashlimit, a token of limit in 100 ms, and connlimit, which
                looks at a list once in a jiffy, change from one tick of the kernel to the next.  It must give, at least once, all of
                our answer.

What remains after that is undecided, and is listed with its seed; a case that had to be asked twice because the machine stood
still is counted as slow.  Each question is asked with other IP ids and other named tables (`salted`): what a run that just
went by left behind in a kernel must not meet the next.
"""

from __future__ import annotations

import itertools
import re
import time
from dataclasses import dataclass, field

from nfqfw.selftest.case import Case, salted
from nfqfw.selftest.outcome import Outcome, Place, compared

ASKED_AGAIN = 6                 # times that the kernel is asked again about a difference
LONGEST = 1.0                   # seconds: a case that took longer says nothing about time-outs of 2 s (fragments, TIMEOUT_SLACK)
PATIENCE = 5                    # runs until one was not too slow
SALTS = itertools.cycle(range(300, 700))        # far from the ids of the seeds around (generate_packets.Talk.ident: 1,015 seeds a turn)

CLOCK = re.compile(r"--ctexpire|-m connlimit|--hashlimit-\w+ \d+k?b/s|--limit \d+/second")
DRAW = re.compile(r"-j (SNAT|DNAT|MASQUERADE|REDIRECT|NETMAP|CT --zone)")

Atom = tuple[Place, int]        # one 16-bit word, counter or field of a place


def chance(case: Case) -> str:
    """What in a case lets the kernel answer differently at another time: "clock", "draw", "clock or draw"; "" for nothing."""
    return " or ".join(name for name, rule in (("clock", CLOCK), ("draw", DRAW)) if rule.search(case.rules))


@dataclass(slots=True)
class Judgement:
    """lines: how we differ, empty if we do not.  undecided: why that does not count, "" if it does."""

    lines: list[str] = field(default_factory=list)
    undecided: str = ""
    slow: int = 0               # runs thrown away because they took too long


class Judge:
    """Asks two kernels and one nfqfw."""

    def __init__(self, kernel, second, ours) -> None:
        self.kernel, self.second, self.ours = kernel, second, ours
        self.normal = getattr(ours, "normal", lambda outcome: outcome)
        self.slow = 0

    def judge(self, case: Case) -> Judgement:
        self.slow = 0
        found = self._against_ours(case)
        if not found:
            return Judgement(slow=self.slow)
        why = chance(case)
        again = [self._asked_again(case, bool(why)) for _ in range(ASKED_AGAIN)]
        lines = [line for rows in found.values() for line in rows]
        equal = sum(not ours for ours, _ in again)
        if "clock" in why and equal:
            return Judgement(lines, f"clock: the kernel gave our answer {equal} of {ASKED_AGAIN} times", self.slow)
        drawn = set().union(*(kernels for _, kernels in again))
        if "draw" in why and found.keys() <= {place for place, _ in drawn} and set().union(*(ours for ours, _ in again)) <= drawn:
            return Judgement(lines, f"draw: two kernels disagree where we do ({_named(found)})", self.slow)
        return Judgement([*lines, f"asked again: equal {equal} of {ASKED_AGAIN} times"], "", self.slow)

    def _against_ours(self, case: Case) -> dict[Place, list[str]]:
        theirs, mine = self._in_time(case, self.kernel, self.ours)
        return compared(self.normal(theirs), self.normal(mine))

    def _asked_again(self, case: Case, with_second: bool) -> tuple[set[Atom], set[Atom]]:
        """In what we differ from the kernel, and in what two kernels differ, at another try."""
        twins = (self.kernel, self.ours, self.second) if with_second else (self.kernel, self.ours)
        theirs, mine, *other = (self.normal(outcome) for outcome in self._in_time(salted(case, next(SALTS)), *twins))
        return unlike(theirs, mine), unlike(theirs, other[0]) if other else set()

    def _in_time(self, case: Case, *twins) -> list[Outcome]:
        """The case on each twin, again if one of them took too long."""
        for _ in range(PATIENCE):
            outcomes, longest = [], 0.0
            for twin in twins:
                began = time.monotonic()
                outcomes.append(twin.run(case))
                longest = max(longest, time.monotonic() - began)
            if longest <= LONGEST:
                break
            self.slow += 1
            case = salted(case, next(SALTS))
        return outcomes


def unlike(a: Outcome, b: Outcome) -> set[Atom]:
    """The words, counters and fields in which two Outcomes differ; where they have not as many at a place, all of the longer."""
    out: set[Atom] = set()
    for place in compared(a, b):
        one, other = _values(a, place), _values(b, place)
        out |= {(place, i) for i in range(max(len(one), len(other))) if one[i:i + 1] != other[i:i + 1]}
    return out


def _values(outcome: Outcome, place: Place) -> list:
    """What an Outcome has at a place, in pieces of which a port is one."""
    if place[0] == "packet":
        return [v for e in outcome.steps[place[1] - 1] for v in (e.point, e.mark, len(e.data), *_words(e.data))]
    if place[0] == "connection":
        here = [c.normal() for c in outcome.connections if (c.proto, c.original, c.zone) == place[1:]]
        return [v for c in here for v in (*c.original, *c.reply, *c[3:])]
    return [outcome.counters.get(place[1:3])] if place[0] == "counter" else [outcome]


def _words(data: bytes) -> list[bytes]:
    return [data[i:i + 2] for i in range(0, len(data), 2)]


def _named(places: dict[Place, list[str]]) -> str:
    return ", ".join(" ".join(map(str, place)) if place[0] != "connection" else "a connection" for place in places)
