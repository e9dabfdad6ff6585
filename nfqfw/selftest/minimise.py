"""Shrinks a difference to the fewest rules and packets that still show it.

`differs(case)` runs a case on both twins and says whether they differ.  Each trial is salted: fragments of the trial before
still wait in the kernel.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

from nfqfw.selftest.case import Case, salted

TRIALS = 400
SALTS = itertools.count(1)         # of the whole process: no two trials share fragment ids for long


class Minimiser:
    def __init__(self, differs: Callable[[Case], bool], trials: int = TRIALS) -> None:
        self.differs, self.trials = differs, trials

    def smaller(self, case: Case) -> Case:
        """The smallest case found that still differs; the case itself when nothing may go."""
        before = None
        while before is None or (case.rules, len(case.steps)) != before:
            before = (case.rules, len(case.steps))
            case = self.steps(case)
            case = self.lines(case)
            case = self.words(case)
        return case

    def still(self, case: Case) -> bool:
        if self.trials <= 0:
            return False
        self.trials -= 1
        try:
            return self.differs(salted(case, next(SALTS)))
        except Exception:                   # noqa: BLE001: a trial that a twin refuses is no smaller case
            return False

    def steps(self, case: Case) -> Case:
        size = max(1, len(case.steps) // 2)
        while size:
            at = 0
            while at < len(case.steps):
                trial = replace(case, steps=case.steps[:at] + case.steps[at + size:])
                if trial.steps and self.still(trial):
                    case = trial
                else:
                    at += size
            size //= 2
        return case

    def lines(self, case: Case) -> Case:
        """Without tables, rules, unused chains and DROP policies, as far as the difference stays."""
        for table in case.rules.split("COMMIT\n"):
            trial = replace(case, rules=case.rules.replace(table + "COMMIT\n", "")) if table else case
            if table and self.still(trial):
                case = trial
        for line in case.rules.splitlines():
            without = [one for one in case.rules.splitlines() if one is not line]
            if line.startswith("-A"):
                at = case.rules.splitlines().index(line)
                lines = case.rules.splitlines()
                trial = replace(case, rules="\n".join(lines[:at] + lines[at + 1:]) + "\n")
            elif line.startswith(":") and " - " in line and not any(line[1:].split()[0] in one.split() for one in without):
                trial = replace(case, rules=case.rules.replace(line + "\n", ""))
            elif " DROP [" in line:
                trial = replace(case, rules=case.rules.replace(line, line.replace(" DROP ", " ACCEPT ")))
            else:
                continue
            if self.still(trial):
                case = trial
        return case

    def words(self, case: Case) -> Case:
        """Rules with fewer words: a match or an option at a time."""
        for line in case.rules.splitlines():
            if not line.startswith("-A"):
                continue
            now = line
            for part in _parts(line):
                shorter = now.replace(part, "", 1).rstrip()
                trial = replace(case, rules=case.rules.replace(now, shorter, 1))
                if shorter != now and self.still(trial):
                    case, now = trial, shorter
        return case


def _parts(line: str) -> list[str]:
    """Removable pieces of a rule: ` -m name --option value`, ` ! -s x`, ` --option value`."""
    words = line.split()[2:]
    starts = [i for i, w in enumerate(words) if w.startswith("-") and (i == 0 or words[i - 1] != "!")
              or w == "!" and i + 1 < len(words) and words[i + 1].startswith("-")]
    pieces = [" " + " ".join(words[a:b]) for a, b in zip(starts, [*starts[1:], len(words)], strict=True)]
    matches = [i for i, p in enumerate(pieces) if p.startswith(" -m ")]
    whole = []
    for i in matches:
        end = next((j for j in range(i + 1, len(pieces)) if not pieces[j].lstrip(" !").startswith("--")), len(pieces))
        whole.append("".join(pieces[i:end]))
    return whole + [p for p in pieces if not p.startswith((" -m ", " -p ", " -j ", " -g "))]
