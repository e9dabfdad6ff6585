"""Many cases beside the kernel in parts: several at a time, resumable, one summary at the end.

Each part that is done is a file DIRECTORY/SEED+COUNT.json.  It names the build that it was run on, so that a part of another
build, generator or kernel is run again; what an earlier run finished is not.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import fields
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from nfqfw.selftest import lanes
from nfqfw.selftest.generate import GENERATOR

PART = 4000                     # cases: a minute or two
PR_SET_PDEATHSIG = 1
PACKAGE = Path(__file__).parents[1]


def build_id(features: frozenset[str]) -> str:
    """What an answer depends on: every module of the package, the generator, its features, the kernel."""
    digest = hashlib.sha256(repr((GENERATOR, sorted(features), os.uname().release)).encode())
    for path in sorted(p for p in PACKAGE.rglob("*") if p.suffix in (".py", ".so")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def parts_of(first: int, count: int, size: int) -> list[tuple[int, int]]:
    """(first seed, cases) of each part."""
    return [(at, min(size, first + count - at)) for at in range(first, first + count, size)]


def run(directory: Path, first: int, count: int, jobs: int, features: frozenset[str],
        known: dict[int, str], progress: Callable[[str], None] = print, size: int = PART) -> lanes.Report:
    """All parts, `jobs` at a time, one CPU each.  known: seeds whose difference is explained."""
    build = build_id(features)
    directory.mkdir(parents=True, exist_ok=True)
    whole = lanes.Report()
    open_parts = []
    for at, cases in parts_of(first, count, size):
        done = _read(directory, at, cases, build)
        if done is None:
            open_parts.append((at, cases))
            continue
        whole.add(done)
        progress(f"{at}: done before")
    spawn = get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_worker, initargs=(spawn.Value("i", 0),)) as pool:
        todo = iter(open_parts)
        running = {}

        def start(n: int) -> None:          # no more than run at once: what waits in the pool would outlive an interrupt
            running.update({pool.submit(_part, at, cases, features): (at, cases) for at, cases in islice(todo, n)})

        start(jobs)
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                at, cases = running.pop(future)
                start(1)
                report = future.result()
                _write(directory, at, cases, build, report)
                report.set_aside(known)
                whole.add(report)
                progress(f"{at}: {report.summary()}")
    whole.set_aside(known)
    return whole


def _worker(number) -> None:
    """On a CPU of its own, to which its twins keep; ends with the run that started it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    cpus = sorted(os.sched_getaffinity(0))
    with number.get_lock():
        os.sched_setaffinity(0, {cpus[number.value % len(cpus)]})
        number.value += 1


def _part(first: int, count: int, features: frozenset[str]) -> lanes.Report:
    return lanes.both(range(first, first + count), features)


def _file(directory: Path, first: int, count: int) -> Path:
    return directory / f"{first}+{count}.json"


def _write(directory: Path, first: int, count: int, build: str, report: lanes.Report) -> None:
    path = _file(directory, first, count)
    kept = {f.name: getattr(report, f.name) for f in fields(report)}
    path.with_suffix(".part").write_text(json.dumps({"build": build, "report": kept}, indent=1) + "\n")
    path.with_suffix(".part").rename(path)


def _read(directory: Path, first: int, count: int, build: str) -> lanes.Report | None:
    """The report of a part that this build has done."""
    path = _file(directory, first, count)
    if not path.exists():
        return None
    kept = json.loads(path.read_text())
    if kept["build"] != build:
        return None
    report = lanes.Report(**kept["report"])
    report.seen = Counter(report.seen)
    report.different = {int(seed): lines for seed, lines in report.different.items()}
    report.undecided = {int(seed): why for seed, why in report.undecided.items()}
    return report
