"""How long does a packet wait?  Round trips of one small UDP packet at a time through the firewall, subjects a to e.

Each round trip crosses the subject twice (request, answer) and wakes four sleepers, so the scheduler is in it as much as the
subject: compare with "no queue" and with the bare loop.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time

from bench.harness import Bench
from bench.result import Arguments, Axis, Figure, Plot, at_most, ratio, report, reported
from bench.subjects import SUBJECTS

PORT = 9001
PERCENTILES = (50, 90, 99)
MOST = {50: 1.15, 99: 1.5}      # of the bare loop's, by percentile


def echo(server: socket.socket, ended: threading.Event) -> None:
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            data, sender = server.recvfrom(100)
            server.sendto(data, sender)


def round_trips(bench: Bench, name: str, count: int) -> dict[int, float]:
    """µs, by percentile."""
    with bench.running(name), contextlib.closing(bench.lab.server.socket(socket.AF_INET, socket.SOCK_DGRAM)) as server, \
            contextlib.closing(bench.lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        server.bind((bench.lab.server.address(), PORT))
        server.settimeout(0.2)
        client.connect((bench.lab.server.address(), PORT))
        client.settimeout(2)
        ended = threading.Event()
        thread = threading.Thread(target=echo, args=(server, ended))
        thread.start()
        try:
            times = []
            for number in range(count + 100):
                begun = time.perf_counter_ns()
                client.send(b"ping")
                client.recv(100)
                if number >= 100:                       # the first warm up caches and the flow table
                    times.append(time.perf_counter_ns() - begun)
        finally:
            ended.set()
            thread.join()
    times.sort()
    return {percentile: times[min(count - 1, count * percentile // 100)] / 1000 for percentile in PERCENTILES}


def main() -> int:
    parser = Arguments(__doc__, runs=9, quick={"count": 300})
    parser.add_argument("--count", type=int, default=2000, help="round trips of a run")
    parser.add_argument("--only", nargs="*", choices=list(SUBJECTS), help="subjects to run")
    options = parser.parse_args()
    names = [name for name in SUBJECTS if not options.only or name in options.only]
    times: dict = {(name, percentile): [] for name in names for percentile in PERCENTILES}
    with Bench() as bench:
        for _ in range(options.runs):
            for name in names:
                for percentile, value in round_trips(bench, name, options.count).items():
                    times[name, percentile].append(value)
    figures = {key: Figure.of(values) for key, values in times.items()}
    lines = [[SUBJECTS[name].letter, SUBJECTS[name].label, *(figures[name, percentile].text(0) for percentile in PERCENTILES)]
             for name in names]
    checks = []
    for percentile in PERCENTILES if "nfqfw" in names else ():
        for other in {"bare", "none", "netfilterqueue"} & set(names):
            what, value = f"p{percentile}, nfqfw / {SUBJECTS[other].label}", ratio(times["nfqfw", percentile], times[other, percentile])
            checks.append(at_most(what, value, MOST[percentile]) if other == "bare" and percentile in MOST else reported(what, value))
    plot = Plot("latency", "UDP round trip through the firewall, one packet at a time", Axis("µs", log=True), Axis(""),
                {f"p{percentile}": [Plot.point(SUBJECTS[name].label, times[name, percentile]) for name in names] for percentile in (50, 99)}, "bars")
    return report(f"UDP ping-pong, µs; median (range) of {options.runs} alternated runs of {options.count:,} round trips", bench.machine,
                  ["", "subject", *(f"p{percentile}" for percentile in PERCENTILES)], lines, sorted(checks),
                  {"question": "latency", "runs": options.runs, "count": options.count,
                   "subjects": {name: {f"p{p}_us": figures[name, p]._asdict() for p in PERCENTILES} for name in names}}, options.json, [plot])


if __name__ == "__main__":
    sys.exit(main())
