"""Do two queues on two CPUs drain a backlog faster than one?  Bare loop and nfqfw, one and two queues, alternated.

The clock runs from the moment the stopped subject goes on until nothing waits; packets come from many addresses, by which
the kernel balances.  The backlog is shared by the queues, not always evenly: the slower half is what is measured.
"""

from __future__ import annotations

import os
import sys
import time

from bench.harness import Bench
from bench.path import STRAY, drain, send
from bench.result import Arguments, Axis, Figure, Plot, at_least, ratio, report
from bench.subjects import SUBJECTS

ADDRESSES = 128
NAMES = ("bare", "nfqfw")


def drain_seconds(bench: Bench, name: str, queues: int, addresses: list[str], backlog: int) -> float:
    with bench.running(name, queues) as subject:
        flows = bench.flows(True, addresses)
        with bench.cut_off() as passed:
            send(flows, 2000)
            drain(bench)
            before = passed()
            with subject.stopped():
                time.sleep(0.02)
                send(flows, backlog)
                waiting, lost = bench.waiting()
                if not backlog <= waiting <= backlog + STRAY or lost:
                    raise RuntimeError(f"{name}: {waiting} of {backlog} packets queued, {lost} dropped")
                begun = time.perf_counter()
            while bench.waiting()[0]:
                time.sleep(0.001)
            took = time.perf_counter() - begun
            drain(bench)
            if passed() - before != backlog:
                raise RuntimeError(f"{name}: {passed() - before} of {backlog} packets passed")
        for flow in flows:
            flow.close()
    return took


def main() -> int:
    parser = Arguments(__doc__, quick={"backlog": 4_000})
    parser.add_argument("--backlog", type=int, default=40_000, help="packets")
    options = parser.parse_args()
    if (os.cpu_count() or 1) < 2:
        print("one CPU: nothing to compare")
        return 0
    rows = [(name, queues) for name in NAMES for queues in (1, 2)]
    rates: dict = {row: [] for row in rows}
    with Bench() as bench:
        addresses = bench.add_addresses(ADDRESSES)
        for _ in range(options.runs):
            for row in rows:
                rates[row].append(options.backlog / drain_seconds(bench, *row, addresses, options.backlog))
    figures = {row: Figure.of(values) for row, values in rates.items()}
    lines = [[SUBJECTS[name].letter, f"{SUBJECTS[name].label}, {queues} queue{'s'[:queues - 1]}", figures[name, queues].text(0)]
             for name, queues in rows]
    checks = [at_least(f"{SUBJECTS[name].label}, two queues / one", ratio(rates[name, 2], rates[name, 1]), 1.5) for name in NAMES]
    plot = Plot("queues", "Draining a backlog of small UDP packets", Axis("packets per second"), Axis(""),
                {f"{queues} queue{'s'[:queues - 1]}": [Plot.point(SUBJECTS[name].label, rates[name, queues]) for name in NAMES] for queues in (1, 2)},
                "bars")
    return report(f"Backlog of {options.backlog:,} packets, drained packets per second; median (range) of {options.runs} alternated runs",
                  bench.machine, ["", "subject", "packets per second"], lines, checks,
                  {"question": "queues", "runs": options.runs, "backlog": options.backlog,
                   "subjects": {f"{name}_{queues}": figures[name, queues]._asdict() for name, queues in rows}}, options.json, [plot])


if __name__ == "__main__":
    sys.exit(main())
