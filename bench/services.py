"""What does the first packet to one of 10,000 services cost?  A kube-proxy ruleset: 110,000 rules in 40,000 chains, DNAT at the end.

Each packet is a new UDP connection to a random service: on average half of the services' rules are walked, then the service's
own chains and DNAT to one of its pods.  CPU of a packet's whole path (path.py); nfqfw's crosses two hooks.  Also the seconds that
the ruleset takes to load, process start to end.  About 2 minutes.
"""

from __future__ import annotations

import itertools
import sys
import time
from contextlib import ExitStack

from bench import rulesets
from bench.path import LABELS, Fresh, present, standing
from bench.result import Arguments, Axis, Figure, Machine, Plot, numbers, ratio, report, reported
from bench.wire import UDP

CONTENDERS = ("legacy", "nft", "nfqfw")
SIZES = [10, 100, 1_000, 10_000]
BACKLOG = 20_000                # packets; each waits twice
CLIENT = 10 << 24 | 1 << 8      # 10.0.1.0, the lab's client network


def connections(made: rulesets.Kube, run: int):
    """New connections to random UDP services, of hosts that differ from run to run."""
    targets = [header for header in rulesets.service_headers(made, 4096, run) if header.proto == UDP]
    for number, header in enumerate(itertools.cycle(targets)):
        yield header._replace(source=CLIENT + 10 + (number // 60_000 + 3 * run) % 200, sport=2_000 + number % 60_000)


def measure(services: int, names: list[str], runs: int, backlog: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """(µs per packet by contender, seconds of loading)."""
    made, spent, loading = rulesets.kube(services), {name: [] for name in names}, {}
    with ExitStack() as stack:
        stands = {}
        for name in names:
            begun = time.monotonic()
            stands[name] = stack.enter_context(standing(name, made.text))
            loading[name] = time.monotonic() - begun
        for run in range(runs):
            for name, stand in stands.items():
                traffic = Fresh(stand.bench, connections(made, run))
                spent[name].append(stand.cost(traffic, backlog).whole)
                traffic.close()
    return spent, loading


def main() -> int:
    parser = Arguments(__doc__, runs=5, quick={"sizes": [10, 100], "backlog": 2_000})
    parser.add_argument("--sizes", type=numbers, default=SIZES, help="numbers of services")
    parser.add_argument("--backlog", type=int, default=BACKLOG, help="packets that nfqfw drains in a run")
    options = parser.parse_args()
    machine, names = Machine.this(), [name for name in CONTENDERS if present(name)]
    costs, loading = {}, {}
    for services in options.sizes:
        spent, seconds = measure(services, names, options.runs, options.backlog)
        costs |= {(name, services): values for name, values in spent.items()}
        loading |= {(name, services): value for name, value in seconds.items()}
    rows = [["", f"{services:,} services", *(Figure.of(costs[name, services]).text() for name in names),
             " / ".join(f"{loading[name, services]:.1f}" for name in names)] for services in options.sizes]
    checks = [reported(f"{services:,} services: {LABELS[name]} / nfqfw", ratio(costs[name, services], costs["nfqfw", services]))
              for services in options.sizes for name in names[:-1]]
    checks.append(reported(f"nfqfw, {options.sizes[-1]:,} services / {options.sizes[0]:,}",
                           ratio(costs["nfqfw", options.sizes[-1]], costs["nfqfw", options.sizes[0]])))
    plot = Plot("services", "CPU of a connection's first packet, whole path, in a kube-proxy ruleset", Axis("services", log=True),
                Axis("µs of CPU per packet", log=True),
                {LABELS[name]: [Plot.point(services, costs[name, services]) for services in options.sizes] for name in names})
    document = {"question": "services", "runs": options.runs, "cost_us": {f"{name}/{n}": values for (name, n), values in costs.items()},
                "loading_s": {f"{name}/{n}": value for (name, n), value in loading.items()}}
    return report(f"First packet to a random service: CPU of its whole path, µs; median (range) of {options.runs} alternated runs", machine,
                  ["", "ruleset", *(LABELS[name] for name in names), "loading, s"], rows, checks, document, options.json, [plot])


if __name__ == "__main__":
    sys.exit(main())
