"""What does a packet cost as the ruleset grows, beside the kernel's own firewalls?  1 to 100,000 rules that do not match.

    ports       -p udp --dport N, no address: the first packet of a flow walks them all
    addresses   -s HOST: the same
    answered    the port rules behind `--ctstate RELATED,ESTABLISHED -j ACCEPT`, packets of known flows: the walk ends at once

CPU of a packet's whole path (path.py): the sender's share with routing and, for the kernel's firewalls, the rules; and the share
of nfqfw's process.  Break-even: the number of rules from which nfqfw costs less than iptables, between the measured sizes by
a straight line, as the kernel's cost grows.  At most 4 minutes; of 100,000 rules iptables-nft takes many seconds to load.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack

from bench import rulesets
from bench.path import LABELS, Fresh, Known, present, standing
from bench.result import Arguments, Axis, Figure, Machine, Plot, at_least, at_most, numbers, ratio, report, reported

SIZES = [1, 10, 100, 200, 1_000, 2_000, 10_000, 100_000]           # 200, 2,000: beside the break-even, where straight lines are short
CONTENDERS = ("legacy", "nft", "nfqfw")
ANSWERED_SIZES = [1, 100, 10_000, 100_000]
QUESTIONS = {"ports": "port rules, first packets", "addresses": "address rules, first packets", "answered": "port rules, known flows"}
BACKLOG = 20_000                # packets; the path's cost does not depend on it
SPEEDUP_AT, SPEEDUP = 10_000, 25                        # port rules, times cheaper than both of the kernel's
BREAK_EVEN = {"ports": 200, "addresses": 1_300}         # rules at most, with iptables-legacy

Costs = dict[tuple[str, int], list[float]]              # by contender and number of rules: µs of each run


def text_of(question: str, rules: int) -> str:
    match question:
        case "ports":
            return rulesets.ports(rules).text()
        case "addresses":
            return rulesets.addresses(rules).text()
        case _:
            return rulesets.ports(max(1, rules - 1)).text(first=(rulesets.ESTABLISHED,))


def measure(question: str, rules: int, contenders: list[str], runs: int, backlog: int) -> tuple[dict[str, list[float]], list[float]]:
    """(µs per packet of each contender, whole path; nfqfw's own share), run by run."""
    text, spent, own = text_of(question, rules), {name: [] for name in contenders}, []
    with ExitStack() as stack:
        stands = {name: stack.enter_context(standing(name, text)) for name in contenders}
        traffic = {name: Known(stand.bench) if question == "answered" else Fresh(stand.bench) for name, stand in stands.items()}
        for _ in range(runs):
            for name, stand in stands.items():
                cost = stand.cost(traffic[name], backlog)
                spent[name].append(cost.whole)
                if name == "nfqfw":
                    own.append(cost.subject)
        for sender in traffic.values():
            sender.close()
    return spent, own


def break_even(sizes: list[int], kernel: list[float], ours: list[float]) -> float | None:
    """Rules at which the kernel's cost passes ours, medians joined by straight lines; 0 = from the first on, None = never."""
    over = [theirs - mine for theirs, mine in zip(kernel, ours, strict=True)]
    if over[0] >= 0:
        return 0
    for i in range(1, len(sizes)):
        if over[i] >= 0:
            return sizes[i - 1] + (sizes[i] - sizes[i - 1]) * -over[i - 1] / (over[i] - over[i - 1])
    return None


def even_with(contender: str, sizes: list[int], costs: Costs) -> float | None:
    kernel, ours = ([Figure.of(costs[name, rules]).median for rules in sizes] for name in (contender, "nfqfw"))
    return break_even(sizes, kernel, ours)


def main() -> int:
    parser = Arguments(__doc__, runs=5, quick={"sizes": [1, 100, 1_000], "backlog": 2_000, "runs": 3})
    parser.add_argument("--sizes", type=numbers, help="numbers of rules")
    parser.add_argument("--only", nargs="*", choices=list(QUESTIONS), default=list(QUESTIONS), help="of the three questions")
    parser.add_argument("--backlog", type=int, default=BACKLOG, help="packets that nfqfw drains in a run")
    options = parser.parse_args()
    contenders = [name for name in CONTENDERS if present(name)]
    sizes = {question: options.sizes or (ANSWERED_SIZES if question == "answered" else SIZES) for question in options.only}
    machine, costs, own = Machine.this(), {}, {}
    for question in options.only:
        costs[question] = {}
        for rules in sizes[question]:
            spent, share = measure(question, rules, contenders, options.runs, options.backlog)
            costs[question] |= {(name, rules): values for name, values in spent.items()}
            own[question, rules] = share
    return tell(machine, options, sizes, contenders, costs, own)


def tell(machine: Machine, options, sizes: dict[str, list[int]], contenders: list[str], costs: dict[str, Costs], own: dict) -> int:
    rows = [["", QUESTIONS[question], f"{rules:,}", *(Figure.of(costs[question][name, rules]).text() for name in contenders),
             f"{Figure.of(own[question, rules]).median:.2f}"] for question in costs for rules in sizes[question]]
    checks = [check for question, measured in costs.items() for check in checks_of(question, sizes[question], contenders, measured)]
    document = {"question": "rules", "runs": options.runs, "backlog": options.backlog, "cost_us": {
        question: {f"{name}/{rules}": values for (name, rules), values in measured.items()} for question, measured in costs.items()}}
    return report(f"CPU of a packet's whole path, µs; median (range) of {options.runs} alternated runs", machine,
                  ["", "rules", "number", *(LABELS[name] for name in contenders), "of it nfqfw's process"], rows, checks, document,
                  options.json, [plot(question, sizes[question], contenders, measured) for question, measured in costs.items()])


def checks_of(question: str, sizes: list[int], contenders: list[str], costs: Costs) -> list:
    checks = []
    for name in contenders[:-1]:
        for rules in sizes if question == "ports" else sizes[-1:]:
            times = ratio(costs[name, rules], costs["nfqfw", rules])
            what = f"{QUESTIONS[question]}, {rules:,}: {LABELS[name]} / nfqfw"
            wanted = question == "ports" and rules == SPEEDUP_AT
            checks.append(at_least(what, times, SPEEDUP) if wanted else reported(what, times))
        even = even_with(name, sizes, costs)
        if question in BREAK_EVEN and even is not None:
            what = f"break-even with {LABELS[name]}, {QUESTIONS[question]} (rules)"
            checks.append(at_most(what, even, BREAK_EVEN[question]) if name == "legacy" else reported(what, even))
    return checks


def plot(question: str, sizes: list[int], contenders: list[str], costs: Costs) -> Plot:
    evens = {name: even_with(name, sizes, costs) for name in contenders[:-1]}
    note = ", ".join(f"{LABELS[name]} at {even:,.0f} rules" for name, even in evens.items() if even)
    return Plot(f"rules_{question}", f"CPU per packet, whole path: {QUESTIONS[question]}", Axis("rules in the chain", log=True),
                Axis("µs of CPU per packet", log=True),
                {LABELS[name]: [Plot.point(rules, costs[name, rules]) for rules in sizes] for name in contenders},
                note=f"nfqfw costs as much as {note}" if note else "")


if __name__ == "__main__":
    sys.exit(main())
