"""What a question answers with: figures, checks against targets, plots; printed as a table or as JSON.

The JSON of every question has the same outer shape; `python -m bench` keeps it in bench/results/ and `bench.report` draws it:

    question, title      name of the file that asks, and what its table is about
    machine              cpu, cpus, kernel, python, load, commit, date
    seconds              how long the question took
    columns, rows        the table, as printed
    checks               [{what, value, target, ok}]; target "" = reported only
    plots                [{name, title, kind, x, y, series, ...}]: see Plot
    ...                  the question's own figures, under its own names
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
BEGUN = time.monotonic()


class Machine(NamedTuple):
    cpu: str
    cpus: int
    kernel: str
    python: str
    load: str                   # 1-minute load when the run began: figures of a busy machine are worth less
    commit: str
    date: str = ""              # UTC

    @classmethod
    def this(cls) -> Machine:
        cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                    if line.startswith("model name")), platform.processor())
        return cls(cpu, os.cpu_count() or 1, platform.release(), platform.python_version(), f"{os.getloadavg()[0]:.1f}",
                   commit(), datetime.now(UTC).strftime("%Y-%m-%d %H:%M"))


def commit() -> str:
    """Name of what was measured; -dirty if more than results differs from it."""
    name = git("describe", "--always", "--abbrev=10")
    return (name or "unknown") + ("-dirty" if name and git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results") else "")


def git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True).stdout.strip()


def machine_line(machine: dict) -> str:
    return (f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, Python {machine['python']}, load {machine['load']}, "
            f"commit {machine['commit']}{', ' + machine['date'] if machine.get('date') else ''}")


# ---- figures ----------------------------------------------------------------------------------------------------------

class Figure(NamedTuple):
    """Median and range of repeated runs."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        return cls(statistics.median(values), min(values), max(values), len(values))

    def text(self, digits: int = 2) -> str:
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f}–{self.high:,.{digits}f})"


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median of the ratios of runs made side by side: what disturbs a round of runs disturbs both."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


class Check(NamedTuple):
    """A figure beside its target."""

    what: str
    value: float
    ok: bool
    target: str = ""            # as text; "" = reported only

    def text(self) -> str:
        word = ("ok  " if self.ok else "MISS") if self.target or not self.ok else "    "
        return f"{word} {self.what}: {self.value:,.2f}{f' (target {self.target})' if self.target else ''}"


def at_most(what: str, value: float, bound: float) -> Check:
    return Check(what, value, value <= bound, f"≤ {bound:,g}")


def at_least(what: str, value: float, bound: float) -> Check:
    return Check(what, value, value >= bound, f"≥ {bound:,g}")


def reported(what: str, value: float) -> Check:
    return Check(what, value, True)


class Axis(NamedTuple):
    label: str                  # with its unit
    log: bool = False


Point = tuple[float | str, float, float, float]         # x, median, low, high


class Plot(NamedTuple):
    """A picture of the answer: "lines" over a number, or "bars" for the names that are the points' x."""

    name: str                   # of the file in bench/results/, without .svg
    title: str
    x: Axis                     # bars: what the length of a bar is
    y: Axis                     # bars: what the names are
    series: dict[str, list[Point]]
    kind: str = "lines"
    note: str = ""              # small print below
    mark: tuple[float, str] | None = None               # a reference on the axis of values, and its label

    @staticmethod
    def point(x: float | str, values: Sequence[float]) -> Point:
        return x, *Figure.of(values)[:3]


# ---- printing ---------------------------------------------------------------------------------------------------------

def report(title: str, machine: Machine, columns: list[str], rows: list[list[str]], checks: Iterable[Sequence], document: dict,
           as_json: bool, plots: Sequence[Plot] = ()) -> int:
    """Print a table (or the document as JSON); returns the exit code: 1 if a check failed.

    checks: Check, or (what, value, ok).  document: "question" and the question's own figures.
    """
    document = document | {
        "title": title, "machine": machine._asdict(), "seconds": round(time.monotonic() - BEGUN, 1), "columns": columns, "rows": rows,
        "checks": [Check(*check)._asdict() for check in checks],
        "plots": [plot._asdict() | {"x": plot.x._asdict(), "y": plot.y._asdict()} for plot in plots]}
    if as_json:
        print(json.dumps(document, indent=1))
    else:
        show(document)
    return 0 if all(check["ok"] for check in document["checks"]) else 1


def show(document: dict) -> None:
    """Print a question's document as a person reads it."""
    columns, rows = document["columns"], document["rows"]
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    print(document["title"])
    print(machine_line(document["machine"]) + "\n")
    for row in [columns, ["-" * width for width in widths], *rows]:
        print("  ".join(cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))).rstrip())
    print()
    for check in document["checks"]:
        print(Check(**check).text())


# ---- arguments --------------------------------------------------------------------------------------------------------

class Arguments(argparse.ArgumentParser):
    """Options that every question has.  quick: what --quick sets, by option; an option given beside it wins.

        options = Arguments(__doc__, quick={"runs": 1, "backlog": 2000})
        options.add_argument("--backlog", type=int, default=40_000)
        options = options.parse_args()
    """

    def __init__(self, doc: str | None, runs: int = 5, quick: dict | None = None):
        super().__init__(description=(doc or "").splitlines()[0] if doc else None)
        self.quick = {"runs": 1} | (quick or {})
        self.add_argument("--runs", type=int, default=runs, help=f"median of so many runs (default {runs})")
        self.add_argument("--json", action="store_true", help="the figures as JSON")
        self.add_argument("--quick", action="store_true", help="small and few runs: does it work? the figures mean little")

    def parse_args(self, args=None, namespace=None):
        if super().parse_args(args, namespace).quick:
            self.set_defaults(**self.quick)
        return super().parse_args(args, namespace)


def numbers(text: str) -> list[int]:
    """For type=: "1,100,10000"."""
    return [int(part) for part in text.split(",")]
