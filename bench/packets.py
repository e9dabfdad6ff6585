"""How much CPU does a packet cost, and how many pass per second?  Small UDP packets through one hook, subjects a to e.

CPU per packet: a backlog queues up while the subject is stopped, then it drains it; its CPU time divided by packets.
Packets per second: one sender at full speed; what the server receives per second (the sender is often the limit).
Runs alternate between the subjects.  The flows are answered UDP flows (nfqfw: ESTABLISHED, as nearly all packets of a real
network are); nfqfw is also measured with flows that were never answered (each packet walks the ruleset as NEW).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from bench.harness import PAYLOAD, Bench, Figure, Running, ratio, report
from bench.subjects import SUBJECTS

BACKLOG = 40_000
STRAY = 20                      # packets of the kernel itself (neighbour discovery, MLD) that may wait among the backlog
DRAIN_SECONDS = 60
ROWS = [("none", True), ("bare", True), ("nfqfw", True), ("nfqfw", False), ("netfilterqueue", True), ("scapy", True)]


def cpu_per_packet(bench: Bench, name: str, answered: bool, backlog: int) -> float:
    """µs of CPU per packet."""
    with bench.running(name) as subject:
        flows = bench.flows(answered)
        with bench.cut_off() as count:
            used = drained_cpu(bench, subject, flows, count, backlog)
        for flow in flows:
            flow.close()
    return used / backlog / 1000


def drained_cpu(bench: Bench, subject: Running, flows: list, passed: Callable[[], int], backlog: int) -> int:
    """ns of CPU time that the subject takes to drain a backlog; RuntimeError unless all of it was queued and passed."""
    send(flows, 2000)                                   # buffers, caches, page faults
    drain(bench)
    with subject.stopped():
        time.sleep(0.02)
        send(flows, backlog)
        waiting, lost = bench.waiting()
        if not backlog <= waiting <= backlog + STRAY or lost:
            raise RuntimeError(f"{subject.name}: {waiting} of {backlog} packets queued, {lost} dropped")
        before, count = subject.cpu_ns(), passed()
    drain(bench)
    used, count = subject.cpu_ns() - before, passed() - count
    if count != backlog:
        raise RuntimeError(f"{subject.name}: {count} of {backlog} packets passed")
    return used


def send(flows: list, count: int) -> None:
    for i in range(0, count, len(flows)):
        for flow in flows[:count - i]:
            flow.send(PAYLOAD)


def drain(bench: Bench) -> None:
    """Until nothing waits and the last verdicts have taken effect."""
    deadline = time.monotonic() + DRAIN_SECONDS
    quiet = 0
    while quiet < 3:
        if time.monotonic() > deadline:
            raise RuntimeError("the backlog was not drained")
        time.sleep(0.01)
        quiet = quiet + 1 if bench.waiting()[0] == 0 else 0


def packets_per_second(bench: Bench, name: str, answered: bool, seconds: float) -> float:
    with bench.running(name):
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--backlog", type=int, default=BACKLOG, help="packets; at most 65,000")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each saturated run")
    parser.add_argument("--only", nargs="*", choices=list(SUBJECTS), help="subjects to run")
    parser.add_argument("--json", action="store_true")
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


def tell(bench: Bench, rows: list, cost: dict, rate: dict, options) -> int:
    figures = {row: (Figure.of(cost[row]) if cost[row] else None, Figure.of(rate[row])) for row in rows}
    lines, document = [], {}
    for row in rows:
        name, answered = row
        cpu, pps = figures[row]
        label = SUBJECTS[name].label + ("" if answered or name != "nfqfw" else ", unanswered flows")
        lines.append([SUBJECTS[name].letter, label, cpu.text() if cpu else "-", pps.text(0)])
        document[name if answered else name + "_unanswered"] = {
            "cpu_us_per_packet": cpu._asdict() if cpu else None, "packets_per_second": pps._asdict()}
    checks = []
    floor, ours, package, scapy = (cost.get((name, True)) for name in ("bare", "nfqfw", "netfilterqueue", "scapy"))
    if floor and ours:
        checks.append(("CPU per packet, nfqfw / bare loop (at most 1.3)", (r := ratio(ours, floor)), r <= 1.3))
    if package and ours:
        checks.append(("CPU per packet, NetfilterQueue / nfqfw (at least 1.6)", (r := ratio(package, ours)), r >= 1.6))
    if scapy and ours:
        checks.append(("CPU per packet, NetfilterQueue + scapy / nfqfw (reported)", ratio(scapy, ours), True))
    title = f"Small UDP packets, FORWARD, backlog of {options.backlog:,}; median (range) of {options.runs} alternated runs"
    return report(title, bench.machine, ["", "subject", "CPU µs per packet", "packets per second"], lines, checks,
                  {"question": "packets", "runs": options.runs, "backlog": options.backlog, "subjects": document}, options.json)


if __name__ == "__main__":
    sys.exit(main())
