"""Does nfqfw's CPU per packet grow with the ruleset?  acl, fw and ipc sets of 1 to 100,000 rules, all standing at once, alternated.

    misses      each packet is the first of a flow and matches no rule
    hits        each packet is the first of a flow and matches a random rule of the set (or one before it)
    cold        each packet is the first of a flow between random addresses and ports
    known       packets of answered flows, the set behind `--ctstate RELATED,ESTABLISHED -j ACCEPT`

Rules that match accept, so that every packet goes the same way; all must arrive.  CPU per packet of nfqfw's process from a
backlog (design.md par. 10).  About 3 minutes.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack

from bench import rulesets
from bench.path import Fresh, Known, Stand, Traffic, standing
from bench.result import Arguments, Axis, Figure, Machine, Plot, at_most, numbers, ratio, report
from bench.rulesets import Header, Ruleset
from bench.wire import UDP

SIZES = [1, 100, 10_000, 100_000]
KINDS = ("acl", "fw", "ipc")
TRAFFIC = {"misses": "first packets, no rule matches", "hits": "first packets, a random rule matches", "cold": "first packets, random headers",
           "known": "known flows"}
BACKLOG = 20_000                # packets; first packets are connections, and the table holds 262,144
GROWTH = 1.15                   # at most, from the smallest to the largest set


def endless(made: Ruleset, kind: str) -> Iterator[Header]:
    """Headers that the lab routes: cold ones, or hits of rules that take UDP; StopIteration at once where there is no such rule."""
    rng = random.Random(f"{made.kind}/{kind}")
    usable = [rule for rule in made.rules if rule.proto in (None, UDP) and all(
        not end.length or unicast(end.address) for end in (rule.source, rule.destination))]
    while kind == "cold" or usable:
        header = rulesets.anywhere(rng, 4) if kind == "cold" else rulesets.inside(rng.choice(usable), rng, 4)
        if unicast(header.source) and unicast(header.destination):
            yield header._replace(proto=UDP)


def accepting(made: Ruleset) -> Ruleset:
    return made._replace(rules=[rule._replace(target="ACCEPT") for rule in made.rules])


def unicast(address: int) -> bool:
    """A router passes it on, and it is none of the lab's own."""
    return 0 < address >> 24 < 224 and address >> 24 not in (10, 127)


def traffic_for(stand: Stand, made: Ruleset, kind: str) -> Traffic:
    """Hits of a small set in which nothing takes UDP are misses."""
    if kind == "known":
        return Known(stand.bench)
    headers = None if kind == "misses" else endless(made, kind)
    return Fresh(stand.bench, headers if headers and next(headers, None) else None)


def measure(kind: str, known: bool, sizes: list[int], names: list[str], runs: int, backlog: int) -> dict[tuple[str, int], list[float]]:
    """µs of the process by (traffic, rules); all sizes stand side by side.  known: behind the rule that takes known flows."""
    spent: dict[tuple[str, int], list[float]] = {(name, rules): [] for name in names for rules in sizes}
    with ExitStack() as stack:
        sets = {rules: accepting(rulesets.classbench(kind, rules)) for rules in sizes}
        stands = {rules: stack.enter_context(standing("nfqfw", made.text(first=(rulesets.ESTABLISHED,) if known else ())))
                  for rules, made in sets.items()}
        senders = {(name, rules): traffic_for(stands[rules], sets[rules], name) for name, rules in spent}
        for _ in range(runs):
            for (name, rules), sender in senders.items():
                spent[name, rules].append(stands[rules].cost(sender, backlog).subject)
        for sender in senders.values():
            sender.close()
    return spent


def main() -> int:
    parser = Arguments(__doc__, runs=5, quick={"sizes": [1, 1_000], "backlog": 2_000, "runs": 3})
    parser.add_argument("--sizes", type=numbers, default=SIZES, help="numbers of rules")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--backlog", type=int, default=BACKLOG, help="packets")
    options = parser.parse_args()
    machine, costs = Machine.this(), {}
    for kind in options.kinds:
        for known, names in ((False, ["misses", "hits", "cold"]), (True, ["known"])):
            spent = measure(kind, known, options.sizes, names, options.runs, options.backlog)
            costs |= {(kind, name, rules): values for (name, rules), values in spent.items()}
    return tell(machine, options, costs)


def tell(machine: Machine, options, costs: dict[tuple[str, str, int], list[float]]) -> int:
    first, last = options.sizes[0], options.sizes[-1]
    rows = [["", f"{kind}, {TRAFFIC[name]}", *(Figure.of(costs[kind, name, rules]).text() for rules in options.sizes)]
            for kind in options.kinds for name in TRAFFIC]
    checks = [at_most(f"{kind}, {TRAFFIC[name]}: {last:,} rules / {first:,}", ratio(costs[kind, name, last], costs[kind, name, first]), GROWTH)
              for kind in options.kinds for name in TRAFFIC]
    plots = [Plot(f"growth_{name}", f"nfqfw, CPU per packet: {TRAFFIC[name]}", Axis("rules in the chain", log=True), Axis("µs of CPU per packet"),
                  {kind: [Plot.point(rules, costs[kind, name, rules]) for rules in options.sizes] for kind in options.kinds})
             for name in TRAFFIC]
    document = {"question": "growth", "runs": options.runs, "backlog": options.backlog,
                "cpu_us": {"/".join(map(str, key)): values for key, values in costs.items()}}
    return report(f"nfqfw, CPU per packet by number of rules, µs; median (range) of {options.runs} alternated runs", machine,
                  ["", "ruleset and traffic", *(f"{rules:,}" for rules in options.sizes)], rows, checks, document, options.json, plots)


if __name__ == "__main__":
    sys.exit(main())
