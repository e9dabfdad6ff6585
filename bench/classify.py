"""How long does the ruleset itself take for a packet?  The engine without connections, on sets of 100 to 100,000 rules.

No kernel: batches of 64 through the engine's own door, parsing, all chains and counters included; rules that ask nothing of a
connection, so none is looked up.  Each header is met once in a run, so rules, counters and index come from wherever they are:
    cold        random addresses and ports
    hits        each header matches a random rule of the set (or one before it)
    misses      no rule matches
ns per packet, the smallest of several runs: what disturbs a run only adds.  About 40 s.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from bench import rulesets
from bench.result import Arguments, Axis, Check, Figure, Machine, Plot, at_most, numbers, report
from bench.rulesets import Ruleset
from bench.subjects import program_of

SIZES = [100, 1_000, 10_000, 100_000]
SETS: dict[str, Callable[[int], Ruleset]] = {
    "acl": lambda size: rulesets.classbench("acl", size), "fw": lambda size: rulesets.classbench("fw", size),
    "ipc": lambda size: rulesets.classbench("ipc", size), "ports": rulesets.ports, "addresses": rulesets.addresses,
    "blocklist": rulesets.blocklist,
}
KINDS = ("cold", "hits", "misses")
MOST_NS = {10_000: 300, 100_000: 700}       # of cold headers on acl, fw and ipc sets
HEADERS = 20_000                # of a run
FORWARD, CONNECTIONS = 2, 1 << 12


def measure(made: Ruleset, headers: int, runs: int) -> dict[str, list[float]]:
    """ns per packet, by kind of header."""
    from nfqfw._conntrack import ConntrackTable
    from nfqfw._engine import Engine, LoadedProgram
    from nfqfw.host import Host
    from nfqfw.packets import PacketIn

    host = Host.offline({"eth0": ["10.0.1.1/24"], "eth1": ["10.0.2.1/24"]})
    engine = Engine(ConntrackTable(limit=CONNECTIONS), host.block, attached=1 << FORWARD)
    loaded = LoadedProgram(program_of(made.text()))
    engine.load(loaded)
    out = {}
    for kind in KINDS:
        packets = [PacketIn(rulesets.packet(header), FORWARD, 2, 3) for header in rulesets.headers(made, headers, kind)]
        runs_of_kind = [engine.drive(packets, 1, 64, 10**9 * (run + 1), 1000) for run in range(runs)]
        out[kind] = [spent["ns"] / spent["packets"] for spent in runs_of_kind]
    return out


def main() -> int:
    parser = Arguments(__doc__, runs=7, quick={"sizes": [100, 1_000], "headers": 2_000, "runs": 2})
    parser.add_argument("--sizes", type=numbers, default=SIZES, help="numbers of rules")
    parser.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS))
    parser.add_argument("--headers", type=int, default=HEADERS, help="of a run")
    options = parser.parse_args()
    machine, spent = Machine.this(), {}
    for name in options.sets:
        for size in options.sizes:
            spent |= {(name, size, kind): values for kind, values in measure(SETS[name](size), options.headers, options.runs).items()}
    rows = [["", f"{name}, {kind}", *(f"{Figure.of(spent[name, size, kind]).low:,.0f}" for size in options.sizes)]
            for name in options.sets for kind in KINDS]
    checks: list[Check] = [at_most(f"{name}, {size:,} rules: ns per cold header", Figure.of(spent[name, size, "cold"]).low, most)
                           for size, most in MOST_NS.items() if size in options.sizes for name in ("acl", "fw", "ipc") if name in options.sets]
    plots = [Plot(f"classify_{kind}", f"Engine without connections, {kind if kind != 'cold' else 'cold random headers'}",
                  Axis("rules in the chain", log=True), Axis("ns per packet", log=True),
                  {name: [(size, f.low, f.low, f.median) for size in options.sizes if (f := Figure.of(spent[name, size, kind]))] for name in options.sets})
             for kind in KINDS]
    document = {"question": "classify", "runs": options.runs, "headers": options.headers,
                "ns": {"/".join(map(str, key)): values for key, values in spent.items()}}
    return report(f"Engine without connections, ns per packet by number of rules; smallest of {options.runs} runs of {options.headers:,} headers",
                  machine, ["", "ruleset and headers", *(f"{size:,}" for size in options.sizes)], rows, checks, document, options.json, plots)


if __name__ == "__main__":
    sys.exit(main())
