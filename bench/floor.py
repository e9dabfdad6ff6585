"""What does it cost to hand a packet to a process and back?  The floor below every firewall behind NFQUEUE, by size of packet.

The same accept-everything in our batched loop and in the NetfilterQueue package, beside no queue at all.  Enqueueing is the
sender's CPU above that without a queue (the kernel copies the packet for the process); draining is the process's CPU: receive,
verdict, the rest of the packet's way.  Known flows, one hook.  About 30 s.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack

from bench.harness import Bench
from bench.path import Cost, Known, Stand
from bench.result import Arguments, Axis, Figure, Machine, Plot, numbers, ratio, report, reported
from bench.subjects import SUBJECTS

NAMES = ("none", "bare", "netfilterqueue")
SIZES = [18, 512, 1_400]        # bytes of UDP payload
BACKLOG = 20_000                # packets


def measure(size: int, runs: int, backlog: int) -> dict[str, list[Cost]]:
    """µs of each run, all standing at once."""
    costs: dict[str, list[Cost]] = {name: [] for name in NAMES}
    with ExitStack() as stack:
        stands = {}
        for name in NAMES:
            bench = stack.enter_context(Bench())
            subject = stack.enter_context(bench.running(name))
            stands[name] = Stand(bench, subject if subject.process else None)
        traffic = {name: Known(stand.bench, bytes(size)) for name, stand in stands.items()}
        for _ in range(runs):
            for name, stand in stands.items():
                costs[name].append(stand.cost(traffic[name], backlog))
        for sender in traffic.values():
            sender.close()
    return costs


def main() -> int:
    parser = Arguments(__doc__, runs=7, quick={"backlog": 2_000, "sizes": [18, 1_400]})
    parser.add_argument("--sizes", type=numbers, default=SIZES, help="bytes of UDP payload")
    parser.add_argument("--backlog", type=int, default=BACKLOG, help="packets")
    options = parser.parse_args()
    machine, costs = Machine.this(), {}
    for size in options.sizes:
        costs |= {(name, size): each for name, each in measure(size, options.runs, options.backlog).items()}
    rows, checks = [], []
    for size in options.sizes:
        base = costs["none", size]
        rows.append(["", f"no queue, {size:,} bytes", Figure.of([cost.sender for cost in base]).text(), "-", "-"])
        for name in NAMES[1:]:
            own = costs[name, size]
            above = [cost.sender - plain.sender for cost, plain in zip(own, base)]
            rows.append(["", f"{SUBJECTS[name].label}, {size:,} bytes", Figure.of([cost.whole for cost in own]).text(), Figure.of(above).text(),
                         Figure.of([cost.subject for cost in own]).text()])
        wholes = {name: [cost.whole for cost in costs[name, size]] for name in NAMES}
        checks += [reported(f"{size:,} bytes, whole path: {SUBJECTS[name].label} / {SUBJECTS[other].label}", ratio(wholes[name], wholes[other]))
                   for name, other in (("bare", "none"), ("netfilterqueue", "bare"))]
    plot = Plot("floor", "CPU per packet, whole path, when everything is accepted", Axis("µs of CPU per packet"), Axis(""),
                {SUBJECTS[name].label: [Plot.point(f"{size:,} bytes", [cost.whole for cost in costs[name, size]]) for size in options.sizes]
                 for name in NAMES}, "bars")
    document = {"question": "floor", "runs": options.runs, "cost_us": {f"{name}/{size}": each for (name, size), each in costs.items()}}
    return report(f"CPU per packet, µs; median (range) of {options.runs} alternated runs", machine,
                  ["", "who accepts", "whole path", "of it enqueueing", "draining"], rows, checks, document, options.json, [plot])


if __name__ == "__main__":
    sys.exit(main())
