"""How much does the flow table cost per packet, per new flow and per flow kept?

    python bench/conntrack.py [--flows 10000,100000,1000000,4000000] [--json] [--no-kernel]

Per table size: ns of lookup + update (state machine, windows, time-out) of a packet of a random flow, one by one and in
batches of 64 with prefetching (composing the packets is measured apart and taken off); new flows (first packet and confirm);
resident bytes per flow (arrays and index); ns per entry that the collector looks at; ms to take the table over.

One by one, a packet waits for memory twice: for the bucket, and then for the entry that the bucket names (its second line
comes along).  "floor" is what the memory of this machine alone takes for that, with the same arrays and random numbers and
nothing done; the difference is ours.  Pages are joined to huge ones first, as the daemon does (`--small-pages`: not).
Beside it, in the same run: what the kernel's conntrack adds to a new UDP flow on lo under a plain --ctstate rule.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time

from nfqfw._conntrack import ConntrackTable
from nfqfw.conntrack import _drill

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


def machine() -> str:
    with open("/proc/cpuinfo") as f:
        model = re.search(r"model name\s*: (.*)", f.read())
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False,
                            cwd=os.path.dirname(os.path.abspath(__file__))).stdout.strip()
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}, commit {commit or 'unknown'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flows", default="10000,100000,1000000,4000000")
    parser.add_argument("--packets", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--small-pages", action="store_true", help="leave the pages as they are")
    parser.add_argument("--no-kernel", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [measure(int(n), arguments.packets, arguments.repeats, not arguments.small_pages) for n in arguments.flows.split(",")]
    beside = {} if arguments.no_kernel or os.geteuid() else kernel()
    if arguments.json:
        print(json.dumps({"machine": machine(), "tables": rows, "kernel": beside}, indent=1))
        return
    print(machine())
    heads = ("single ns", "floor", "batched ns", "spread", "floor", "new flow ns", "bytes/flow", "collect ns", "take over ms")
    print(f"{'flows':>10}" + "".join(f" {head:>13}" for head in heads))
    for row in rows:
        spread = "{:.0f}-{:.0f}".format(*row["batched_spread"])
        cells = (f"{row['single_ns']:.1f}", f"{row['single_floor_ns']:.1f}", f"{row['batched_ns']:.1f}", spread, f"{row['batched_floor_ns']:.1f}",
                 f"{row['new_flow_ns']:.0f}", f"{row['bytes_per_flow']:.0f}", f"{row['collector_ns_per_entry']:.1f}", f"{row['take_over_ms']:.1f}")
        print(f"{row['flows']:>10,}" + "".join(f" {cell:>13}" for cell in cells))
    for small, large in ((1_000_000, 4_000_000),):
        found = {row["flows"]: row for row in rows}
        if small in found and large in found:
            print(f"{small:,} -> {large:,} flows: single x {found[large]['single_ns'] / found[small]['single_ns']:.2f}, "
                  f"batched x {found[large]['batched_ns'] / found[small]['batched_ns']:.2f}")
    if beside:
        print(f"kernel, UDP to a new destination on lo: {beside['without']:.0f} ns without conntrack, {beside['with']:.0f} with: "
              f"{beside['conntrack_ns_per_new_flow']:.0f} ns per new flow")


if __name__ == "__main__":
    main()
