"""How much CPU does a packet cost, and how many pass per second?  Small UDP packets through one hook, subjects a to e.

CPU per packet: a backlog queues up while the subject is stopped, then it drains it; its CPU time divided by packets.
Packets per second: one sender at full speed; what the server receives per second (the sender is often the limit).
Runs alternate between the subjects.  The flows are answered UDP flows (nfqfw: ESTABLISHED, as nearly all packets of a real
network are); nfqfw is also measured with flows that were never answered (each packet walks the ruleset as NEW).
"""

from __future__ import annotations

import sys
import time

from bench import rulesets
from bench.harness import Bench
from bench.path import STRAY, Sockets, drain, drained, running_rules, send  # noqa: F401: STRAY and drain also from here
from bench.result import Arguments, Axis, Figure, Plot, at_least, at_most, ratio, report, reported
from bench.subjects import SUBJECTS

BACKLOG = 40_000
RULES = 50
MOST, LEAST_PACKAGE, LEAST_SCAPY = 1.15, 1.8, 30        # of the bare loop; times nfqfw
ROWS = [("none", True), ("bare", True), ("nfqfw", True), ("nfqfw", False), ("netfilterqueue", True), ("scapy", True)]


def running(bench: Bench, name: str):
    """A subject; nfqfw with the usual firewall of RULES rules, at the hook where the others are."""
    return running_rules(bench, rulesets.stateful(RULES)) if name == "nfqfw" else bench.running(name)


def cpu_per_packet(bench: Bench, name: str, answered: bool, backlog: int) -> float:
    """µs of CPU per packet."""
    with running(bench, name) as subject:
        traffic = Sockets(bench, answered)
        cost = drained(bench, subject, traffic, backlog)
        traffic.close()
    return cost.subject


def packets_per_second(bench: Bench, name: str, answered: bool, seconds: float) -> float:
    with running(bench, name):
        flows = bench.flows(answered)
        send(flows, 500)
        before, begun = bench.delivered(), time.monotonic()
        while time.monotonic() < begun + seconds:
            send(flows, 512)
        after, ended = bench.delivered(), time.monotonic()
        for flow in flows:
            flow.close()
    return (after - before) / (ended - begun)


def main() -> int:
    parser = Arguments(__doc__, quick={"backlog": 2_000, "seconds": 0.3})
    parser.add_argument("--backlog", type=int, default=BACKLOG, help="packets; at most 65,000")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each saturated run")
    parser.add_argument("--only", nargs="*", choices=list(SUBJECTS), help="subjects to run")
    options = parser.parse_args()
    rows = [row for row in ROWS if not options.only or row[0] in options.only]
    cost: dict = {row: [] for row in rows}
    rate: dict = {row: [] for row in rows}
    with Bench() as bench:
        for _ in range(options.runs):
            for row in rows:
                if SUBJECTS[row[0]].start:
                    cost[row].append(cpu_per_packet(bench, *row, options.backlog))
                rate[row].append(packets_per_second(bench, *row, options.seconds))
        return tell(bench, rows, cost, rate, options)


def label(row: tuple[str, bool]) -> str:
    name, answered = row
    text = f"nfqfw, {RULES} rules, stateful" if name == "nfqfw" else SUBJECTS[name].label
    return text + ("" if answered else ", unanswered flows")


def tell(bench: Bench, rows: list, cost: dict, rate: dict, options) -> int:
    figures = {row: (Figure.of(cost[row]) if cost[row] else None, Figure.of(rate[row])) for row in rows}
    lines, document = [], {}
    for row in rows:
        name, answered = row
        cpu, pps = figures[row]
        lines.append([SUBJECTS[name].letter, label(row), cpu.text() if cpu else "-", pps.text(0)])
        document[name if answered else name + "_unanswered"] = {
            "cpu_us_per_packet": cpu._asdict() if cpu else None, "packets_per_second": pps._asdict()}
    checks = []
    floor, ours, package, scapy = (cost.get((name, True)) for name in ("bare", "nfqfw", "netfilterqueue", "scapy"))
    if floor and ours:
        checks.append(at_most("CPU per packet, nfqfw / bare loop", ratio(ours, floor), MOST))
        if ("nfqfw", False) in cost:
            checks.append(reported("CPU per packet, nfqfw with unanswered flows / bare loop", ratio(cost["nfqfw", False], floor)))
    if package and ours:
        checks.append(at_least("CPU per packet, NetfilterQueue / nfqfw", ratio(package, ours), LEAST_PACKAGE))
    if scapy and ours:
        checks.append(at_least("CPU per packet, NetfilterQueue + scapy / nfqfw", ratio(scapy, ours), LEAST_SCAPY))
    plot = Plot("packets", "CPU per small UDP packet, of the process that judges it", Axis("µs of CPU per packet", log=True), Axis(""),
                {"": [Plot.point(label(row), cost[row]) for row in rows if cost[row]]}, "bars")
    title = f"Small UDP packets, FORWARD, backlog of {options.backlog:,}; median (range) of {options.runs} alternated runs"
    return report(title, bench.machine, ["", "subject", "CPU µs per packet", "packets per second"], lines, checks,
                  {"question": "packets", "runs": options.runs, "backlog": options.backlog, "subjects": document}, options.json, [plot])


if __name__ == "__main__":
    sys.exit(main())
