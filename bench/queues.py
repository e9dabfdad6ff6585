"""Do two queues on two CPUs drain a backlog faster than one?  Bare loop, nfqfw and nfqfw with NAT, one and two queues, alternated.

The clock runs from the moment the stopped subject goes on until nothing waits; packets come from many addresses, by which
the kernel balances.  The backlog is shared by the queues, not always evenly: the slower half is what is measured.  With NAT each
packet waits twice.  CPU time per packet says what sharing costs, also where others keep the CPUs busy.
"""

from __future__ import annotations

import os
import sys
import time

from bench.harness import Bench
from bench.path import STRAY, drain, send
from bench.result import Arguments, Axis, Figure, Plot, at_least, ratio, report, reported
from bench.subjects import NAT_SUBJECTS, SUBJECTS

ADDRESSES = 128
NAMES = ("bare", "nfqfw", "nat_nfqfw")
LABELS = {name: (SUBJECTS | NAT_SUBJECTS)[name].label for name in NAMES}


def drained(bench: Bench, name: str, queues: int, addresses: list[str], backlog: int) -> tuple[float, float]:
    """(packets per second, µs of CPU per packet)."""
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
                begun, cpu = time.perf_counter(), subject.cpu_ns()
            while bench.waiting()[0]:
                time.sleep(0.001)
            took, cpu = time.perf_counter() - begun, subject.cpu_ns() - cpu
            drain(bench)
            if passed() - before != backlog:
                raise RuntimeError(f"{name}: {passed() - before} of {backlog} packets passed")
        for flow in flows:
            flow.close()
    return backlog / took, cpu / backlog / 1000


def main() -> int:
    parser = Arguments(__doc__, quick={"backlog": 4_000})
    parser.add_argument("--backlog", type=int, default=40_000, help="packets")
    options = parser.parse_args()
    if (os.cpu_count() or 1) < 2:
        print("one CPU: nothing to compare")
        return 0
    rows = [(name, queues) for name in NAMES for queues in (1, 2)]
    rates: dict = {row: [] for row in rows}
    cost: dict = {row: [] for row in rows}
    with Bench() as bench:
        addresses = bench.add_addresses(ADDRESSES)
        for _ in range(options.runs):
            for row in rows:
                rate, cpu = drained(bench, *row, addresses, options.backlog)
                rates[row].append(rate)
                cost[row].append(cpu)
    figures = {row: Figure.of(values) for row, values in rates.items()}
    lines = [["abc"[NAMES.index(name)], f"{LABELS[name]}, {queues} queue{'s'[:queues - 1]}", figures[name, queues].text(0),
              Figure.of(cost[name, queues]).text()] for name, queues in rows]
    checks = [at_least(f"{LABELS[name]}, two queues / one", ratio(rates[name, 2], rates[name, 1]), 1.5) for name in NAMES]
    checks += [reported(f"{LABELS[name]}, CPU per packet, two queues / one", ratio(cost[name, 2], cost[name, 1])) for name in NAMES]
    plot = Plot("queues", "Draining a backlog of small UDP packets", Axis("packets per second"), Axis(""),
                {f"{queues} queue{'s'[:queues - 1]}": [Plot.point(LABELS[name], rates[name, queues]) for name in NAMES] for queues in (1, 2)},
                "bars")
    return report(f"Backlog of {options.backlog:,} packets, drained packets per second; median (range) of {options.runs} alternated runs",
                  bench.machine, ["", "subject", "packets per second", "CPU µs per packet"], lines, checks,
                  {"question": "queues", "runs": options.runs, "backlog": options.backlog,
                   "subjects": {f"{name}_{queues}": figures[name, queues]._asdict() for name, queues in rows},
                   "cpu_us": {f"{name}_{queues}": cost[name, queues] for name, queues in rows}}, options.json, [plot])


if __name__ == "__main__":
    sys.exit(main())
