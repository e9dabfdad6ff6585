"""How much does the flow table cost per packet, per new flow and per flow kept?

    python -m bench conntrack [--flows 10000,100000,1000000,4000000] [--json] [--no-kernel]

Per table size: ns of lookup + update (state machine, windows, time-out) of a packet of a random flow, one by one and in
batches of 64 with prefetching (composing the packets is measured apart and taken off); new flows (first packet and confirm);
resident bytes per flow (arrays and index); ns per entry that the collector looks at; ms to take the table over.

One by one, a packet waits for memory twice: for the bucket, and then for the entry that the bucket names (its second line
comes along).  "floor" is what the memory of this machine alone takes for that, with the same arrays and random numbers and
nothing done; the difference is ours.  Pages are joined to huge ones first, as the daemon does (`--small-pages`: not).
Beside it, in the same run: what the kernel's conntrack adds to a new UDP flow on lo under a plain --ctstate rule.
"""

import os
import re
import statistics
import subprocess
import sys
import time

from bench.result import Arguments, Axis, Machine, Plot, numbers, report, reported
from nfqfw._conntrack import ConntrackTable
from nfqfw.conntrack import _drill

FLOWS = [10_000, 100_000, 1_000_000, 4_000_000]
NOW = 10**12
SENDER = """
import socket, sys, time
a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); a.bind(("127.0.0.1", 9)) ; a.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 26)
s = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(1)][0]
n = int(sys.argv[1]); begin = time.perf_counter_ns()
for k in range(n):
    s.sendto(b"x", ("127.%d.%d.%d" % (1 + (k >> 16 & 127), k >> 8 & 255, 1 + k % 250), 9))
print((time.perf_counter_ns() - begin) / n)
"""


def resident_bytes() -> int:
    """Pages of this process that are in memory, shared ones included."""
    with open("/proc/self/smaps_rollup") as f:
        return int(re.search(r"^Rss:\s+(\d+)", f.read(), re.M)[1]) * 1024


def measure(flows: int, packets: int, repeats: int, huge: bool = True) -> dict:
    before = resident_bytes()
    table = ConntrackTable(flows + flows // 16, max(flows + flows // 8, 4096))
    created = _drill.establish(table, flows, NOW)
    size = resident_bytes() - before
    assert table.count == flows, f"{table.count} of {flows} flows"
    out = {"flows": flows, "new_flow_ns": created / flows, "bytes_per_flow": size / flows}
    while huge and table.arena.tend():
        pass
    for name, batched in (("single", False), ("batched", True)):
        runs = []
        for _ in range(repeats):
            empty = _drill.touch(table, flows, packets, NOW, batched, False)
            runs.append((_drill.touch(table, flows, packets, NOW, batched) - empty) / packets)
        out[name + "_ns"] = statistics.median(runs)
        out[name + "_spread"] = [min(runs), max(runs)]
        out[name + "_floor_ns"] = statistics.median(_drill.memory_floor(table, flows, packets, batched) for _ in range(repeats))
    out["collector_ns_per_entry"] = _drill.expire_all(table, NOW, flows) / flows
    begin = time.perf_counter()
    other = ConntrackTable.attach(table.arena.fd, flows)
    out["take_over_ms"] = (time.perf_counter() - begin) * 1000
    assert other.count == flows
    return out


def kernel(count: int = 100_000) -> dict:
    """ns per UDP datagram to a new destination on lo, without and with conntrack in the namespace."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XTABLES_LOCKFILE": f"/run/nfqfw-bench-{os.getpid()}.lock"}
    rule = "iptables-legacy -A INPUT -m conntrack --ctstate INVALID -j DROP;"
    out = {}
    for name, setup in (("without", ""), ("with", rule)):
        done = subprocess.run(["unshare", "-n", "sh", "-c", f"ip link set lo up; {setup} exec {sys.executable} -c '{SENDER}' {count}"],
                              capture_output=True, text=True, timeout=60, env=environment, check=True)
        out[name] = float(done.stdout)
    return out | {"conntrack_ns_per_new_flow": out["with"] - out["without"]}


def main() -> int:
    parser = Arguments(__doc__, runs=5, quick={"flows": [10_000, 100_000], "packets": 100_000, "no_kernel": True})
    parser.add_argument("--flows", type=numbers, default=FLOWS)
    parser.add_argument("--packets", type=int, default=2_000_000)
    parser.add_argument("--small-pages", action="store_true", help="leave the pages as they are")
    parser.add_argument("--no-kernel", action="store_true")
    options = parser.parse_args()
    machine = Machine.this()
    tables = [measure(flows, options.packets, options.runs, not options.small_pages) for flows in options.flows]
    beside = {} if options.no_kernel or os.geteuid() else kernel()
    return tell(machine, options, tables, beside)


COLUMNS = ("single ns", "floor", "batched ns", "spread", "floor", "new flow ns", "bytes/flow", "collect ns", "take over ms")


def tell(machine: Machine, options, tables: list[dict], beside: dict) -> int:
    rows = [["", f"{each['flows']:,} flows", f"{each['single_ns']:.1f}", f"{each['single_floor_ns']:.1f}", f"{each['batched_ns']:.1f}",
             "{:.0f}–{:.0f}".format(*each["batched_spread"]), f"{each['batched_floor_ns']:.1f}", f"{each['new_flow_ns']:.0f}",
             f"{each['bytes_per_flow']:.0f}", f"{each['collector_ns_per_entry']:.1f}", f"{each['take_over_ms']:.1f}"] for each in tables]
    found = {each["flows"]: each for each in tables}
    checks = [reported(f"ns per packet, {name}: {large:,} flows / {small:,}", found[large][f"{name}_ns"] / found[small][f"{name}_ns"])
              for small, large in ((1_000_000, 4_000_000),) if {small, large} <= found.keys() for name in ("single", "batched")]
    if beside:
        checks.append(reported("ns that the kernel's conntrack adds to a new UDP flow on lo", beside["conntrack_ns_per_new_flow"]))
    plot = Plot("conntrack", "Flow table: lookup and update of a random flow's packet", Axis("flows", log=True), Axis("ns per packet"), {
        "batches of 64": [(each["flows"], each["batched_ns"], *each["batched_spread"]) for each in tables],
        "one by one": [(each["flows"], each["single_ns"], *each["single_spread"]) for each in tables],
        "memory, batches": [(each["flows"], *3 * (each["batched_floor_ns"],)) for each in tables],
        "memory, one by one": [(each["flows"], *3 * (each["single_floor_ns"],)) for each in tables]})
    return report(f"Flow table; medians of {options.runs} runs of {options.packets:,} packets", machine, ["", "known", *COLUMNS], rows, checks,
                  {"question": "conntrack", "runs": options.runs, "tables": tables, "kernel": beside}, options.json, [plot])


if __name__ == "__main__":
    sys.exit(main())
