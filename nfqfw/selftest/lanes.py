"""Ways to run cases: record the kernel, check a recording, both twins side by side."""

from __future__ import annotations

import datetime
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from nfqfw.selftest import record
from nfqfw.selftest.case import Case
from nfqfw.selftest.flow import write_flow
from nfqfw.selftest.generate import GENERATOR, make_case
from nfqfw.selftest.judge import Judge, chance
from nfqfw.selftest.minimise import Minimiser
from nfqfw.selftest.outcome import differences
from nfqfw.selftest.show import beside, write_files


@dataclass(slots=True)
class Report:
    """What a run found."""

    cases: int = 0
    packets: int = 0
    slow: int = 0                                                       # runs thrown away: the machine stood still
    seconds: float = 0.0
    different: dict[int, list[str]] = field(default_factory=dict)       # seed -> what differs
    undecided: dict[int, str] = field(default_factory=dict)             # seed -> why the kernel's answer is chance (judge.py)
    explained: dict[int, str] = field(default_factory=dict)             # seed -> reason: a difference that README names
    seen: Counter = field(default_factory=Counter)                      # opcodes, verdicts, reasons, classes that were hit

    def add(self, other: Report) -> None:
        self.cases += other.cases
        self.packets += other.packets
        self.seconds += other.seconds
        self.slow += other.slow
        self.different.update(other.different)
        self.undecided.update(other.undecided)
        self.explained.update(other.explained)
        self.seen.update(other.seen)

    def summary(self) -> str:
        return (f"{self.cases} cases, {self.packets} packets, {len(self.different)} unexplained differences, {len(self.explained)} explained, "
                f"{len(self.undecided)} undecided, {self.slow} slow runs repeated, {self.seconds:.1f} s")

    def set_aside(self, known: dict[int, str]) -> None:
        """Take the differences that are known out of `different`."""
        self.explained |= {seed: known[seed] for seed in self.different if seed in known}
        self.different = {seed: lines for seed, lines in self.different.items() if seed not in known}


def record_kernel(path: Path, first: int, count: int, features: frozenset[str], progress: Callable[[str], None] = print) -> None:
    """Ask the kernel `count` cases and write its answers.

    A case in which the kernel's answer may be chance (judge.py) is asked of KERNELS kernels, and where they do not agree the answer
    is recorded as undecided (no packets).
    """
    header = {"generator": GENERATOR, "features": sorted(features), "first": first, "count": count,
              "kernel": os.uname().release, "date": datetime.date.today().isoformat()}
    chunks = [(at, min(CHUNK, first + count - at), features) for at in range(first, first + count, CHUNK)]

    def answers() -> Iterator[record.Answer]:
        done = 0
        with ProcessPoolExecutor(WORKERS * os.cpu_count(), mp_context=get_context("spawn")) as pool:
            for chunk in pool.map(_record_chunk, chunks):
                yield from chunk
                done += len(chunk)
                if done % 1000 < CHUNK:
                    progress(f"{done} cases recorded")

    record.write(path, header, answers())


CHUNK = 100                     # cases of one set of kernel twins
KERNELS = 4                     # that must agree where chance has a part: two draw the same one of four ports often enough
WORKERS = 3                     # per CPU: the kernel spends most of a case waiting, in the change of tables


def _record_chunk(chunk: tuple[int, int, frozenset[str]]) -> list[record.Answer]:
    from nfqfw.selftest.kernel import KernelTwin

    first, count, features = chunk
    with ExitStack() as stack:
        kernels = [stack.enter_context(KernelTwin()) for _ in range(KERNELS)]
        return [_decided(make_case(seed, features), *kernels) for seed in range(first, first + count)]


def _decided(case: Case, kernel, *others) -> record.Answer:
    answer = record.answer_of(kernel.run(case))
    if chance(case) and any(record.answer_of(other.run(case)) != answer for other in others):
        return record.UNDECIDED
    return answer


def check_recording(path: Path, limit: int | None = None, part: int = 0, parts: int = 1, first_only: bool = False) -> Report:
    """Run a recording's cases (every parts-th, from the part-th) on our twin."""
    from nfqfw.selftest.ours import OurTwin

    header, answers = record.read(path)
    if header["generator"] != GENERATOR:
        raise ValueError(f"{path.name} was made by generator {header['generator']}, this is {GENERATOR}: make oracle records anew")
    features = frozenset(header["features"])
    report, began = Report(), time.monotonic()
    with OurTwin() as ours:
        for i, answer in enumerate(answers):
            if limit is not None and i >= limit or first_only and report.different:
                break
            if i % parts != part:
                continue
            seed = header["first"] + i
            if answer == record.UNDECIDED:
                report.undecided[seed] = "two kernels disagreed when it was recorded"
                continue
            found = one(ours, make_case(seed, features), answer, report)
            if found:
                report.different[seed] = found
        report.seen = ours.seen
    report.seconds = time.monotonic() - began
    return report


def one(ours, case: Case, answer: record.Answer, report: Report) -> list[str]:
    report.cases += 1
    report.packets += len(case.steps)
    try:
        return record.differs(answer, ours.run(case))
    except Exception as error:              # noqa: BLE001: whatever the engine's door raises is a difference to show
        return [f"{type(error).__name__}: {error}"]


def both(seeds: Iterable[int], features: frozenset[str], seconds: float = 1e9, ours=None) -> Report:
    """Run seeds on both twins, side by side, until the time is over.  ours: another twin than the engine in-process."""
    from nfqfw.selftest.kernel import KernelTwin

    report, began = Report(), time.monotonic()
    with KernelTwin() as kernel, KernelTwin() as second, ours or _ours() as twin:
        judge = Judge(kernel, second, twin)
        for seed in seeds:
            if time.monotonic() - began > seconds:
                break
            case = make_case(seed, features)
            judgement = judge.judge(case)
            report.cases += 1
            report.packets += len(case.steps)
            report.slow += judgement.slow
            if judgement.undecided:
                report.undecided[seed] = judgement.undecided
            elif judgement.lines:
                report.different[seed] = judgement.lines
        report.seen = getattr(twin, "seen", Counter())
    report.seconds = time.monotonic() - began
    return report


def _ours():
    from nfqfw.selftest.ours import OurTwin

    return OurTwin()


def show(seed: int, features: frozenset[str], shrink: bool = True, directory: Path | None = None) -> str:
    """The kernel's full answer beside ours for one seed; where they differ the smallest case that still does, too.

    directory: write that case (the whole one with shrink off) there, as a .flow and a rules file.
    """
    from nfqfw.selftest.kernel import KernelTwin

    with KernelTwin() as kernel, _ours() as ours:
        case = make_case(seed, features)
        theirs, mine = kernel.run(case), ours.run(case)
        found = differences(theirs, mine)
        text = beside(case, theirs, mine) + f"\nseed {seed}: {'different' if found else 'equal'}\n"
        note = [f"seed {seed}: {'different' if found else 'equal'}", *found]
        if found and shrink:
            case = Minimiser(lambda c: bool(differences(kernel.run(c), ours.run(c)))).smaller(case)
            note = [f"seed {seed}, smallest", *differences(kernel.run(case), ours.run(case))]
            text += "\n" + write_flow(case, "\n".join(note))
        if directory is not None:
            text += "".join(f"\nwritten: {path}" for path in write_files(case, note, directory, f"seed{seed}")) + "\n"
        return text
