"""How fast is bulk TCP through the firewall?  iperf3 over veth, MTU 1500, client to server, subjects a to e, alternated."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from bench.harness import Bench
from bench.result import Arguments, Axis, Figure, Plot, at_least, ratio, report, reported
from bench.subjects import SUBJECTS

PORT = 443                      # accepted by the demo ruleset
LEAST = 0.95                    # of the bare loop's rate


def gigabits(bench: Bench, name: str, seconds: float) -> float:
    """Gbit/s that the server received."""
    with bench.running(name):
        server = bench.lab.server.popen(["iperf3", "-s", "-1", "-p", str(PORT)], stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL)
        try:
            time.sleep(0.3)
            run = bench.lab.client.run(["iperf3", "-c", bench.lab.server.address(), "-p", str(PORT), "-t", str(seconds), "-J"],
                                       timeout=seconds + 20)
            return json.loads(run.stdout)["end"]["sum_received"]["bits_per_second"] / 1e9
        finally:
            server.terminate()
            server.wait(5)


def main() -> int:
    parser = Arguments(__doc__, quick={"seconds": 1})
    parser.add_argument("--seconds", type=int, default=3, help="of each run")
    parser.add_argument("--only", nargs="*", choices=list(SUBJECTS), help="subjects to run")
    options = parser.parse_args()
    names = [name for name in SUBJECTS if not options.only or name in options.only]
    rates: dict[str, list[float]] = {name: [] for name in names}
    with Bench() as bench:
        for _ in range(options.runs):
            for name in names:
                rates[name].append(gigabits(bench, name, options.seconds))
    figures = {name: Figure.of(values) for name, values in rates.items()}
    lines = [[SUBJECTS[name].letter, SUBJECTS[name].label, figures[name].text()] for name in names]
    checks = []
    if "bare" in rates and "nfqfw" in rates:
        checks.append(at_least("bulk TCP, nfqfw / bare loop", ratio(rates["nfqfw"], rates["bare"]), LEAST))
    for other in ("none", "netfilterqueue"):
        if other in rates and "nfqfw" in rates:
            checks.append(reported(f"bulk TCP, nfqfw / {SUBJECTS[other].label}", ratio(rates["nfqfw"], rates[other])))
    plot = Plot("tcp_bulk", "Bulk TCP through the firewall, one stream, MTU 1500", Axis("Gbit/s"), Axis(""),
                {"": [Plot.point(SUBJECTS[name].label, rates[name]) for name in names]}, "bars")
    return report(f"Bulk TCP, Gbit/s; median (range) of {options.runs} alternated runs of {options.seconds:g} s", bench.machine,
                  ["", "subject", "Gbit/s"], lines, checks,
                  {"question": "tcp_bulk", "runs": options.runs, "run_seconds": options.seconds,
                   "subjects": {name: figure._asdict() for name, figure in figures.items()}}, options.json, [plot])


if __name__ == "__main__":
    sys.exit(main())
