"""What does a blocklist of 100,000 prefixes cost?  nfqfw's rules beside an ipset, a set of nftables, and the same rules in iptables.

Each packet is the first of a flow, and its sender is not on the list.  CPU of a packet's whole path (path.py); also the
seconds that the list takes to load, process start to end.  About 1 minute; iptables-nft's loading is the longest part.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack

from bench import rulesets
from bench.path import LABELS, Fresh, present, standing
from bench.result import Arguments, Axis, Figure, Machine, Plot, ratio, report, reported

CONTENDERS = ("none", "bare", "ipset", "nft_set", "legacy", "nft", "nfqfw")
BACKLOG = 20_000                # packets
ASKS = rulesets.filter_table(["-m set --match-set blocked src -j DROP"])


def text_of(contender: str, blocked: rulesets.Ruleset) -> tuple[str, str]:
    """What `standing` loads, and what after it."""
    match contender:
        case "ipset":
            return rulesets.ipset_text(blocked), ASKS
        case "nft_set":
            return rulesets.nft_text(blocked), ""
        case _:
            return blocked.text(), ""


def main() -> int:
    parser = Arguments(__doc__, runs=7, quick={"prefixes": 2_000, "backlog": 2_000})
    parser.add_argument("--prefixes", type=int, default=100_000)
    parser.add_argument("--backlog", type=int, default=BACKLOG, help="packets that nfqfw drains in a run")
    options = parser.parse_args()
    machine, blocked = Machine.this(), rulesets.blocklist(options.prefixes)
    names = [name for name in CONTENDERS if present(name)]
    costs: dict[str, list[float]] = {name: [] for name in names}
    loading = {}
    with ExitStack() as stack:
        stands = {}
        for name in names:
            begun = time.monotonic()
            stands[name] = stack.enter_context(standing(name, *text_of(name, blocked)))
            loading[name] = time.monotonic() - begun
        traffic = {name: Fresh(stand.bench) for name, stand in stands.items()}
        for _ in range(options.runs):
            for name, stand in stands.items():
                costs[name].append(stand.cost(traffic[name], options.backlog).whole)
    empty = loading["none"]                             # what the lab alone takes
    rows = [["", LABELS[name], Figure.of(costs[name]).text(), "-" if name in ("none", "bare") else f"{max(0, loading[name] - empty):.2f}"]
            for name in names]
    checks = [reported(f"{LABELS[name]} / nfqfw", ratio(costs[name], costs["nfqfw"])) for name in names if name != "nfqfw"]
    checks.append(reported("nfqfw / its bare loop", ratio(costs["nfqfw"], costs["bare"])))
    plot = Plot("blocklist", f"CPU per packet, whole path, with {options.prefixes:,} prefixes blocked", Axis("µs of CPU per packet", log=True),
                Axis(""), {"": [Plot.point(LABELS[name], costs[name]) for name in names]}, "bars")
    return report(f"{options.prefixes:,} blocked prefixes: CPU of a packet's whole path, µs; median (range) of {options.runs} alternated runs",
                  machine, ["", "contender", "CPU µs per packet", "loading, s"], rows, checks,
                  {"question": "blocklist", "runs": options.runs, "prefixes": options.prefixes, "cost_us": costs, "loading_s": loading},
                  options.json, [plot])


if __name__ == "__main__":
    sys.exit(main())
