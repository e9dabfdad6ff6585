"""What does NAT cost?  MASQUERADE through the kernel, through a loop that only rewrites, and through nfqfw, in one run.

Bulk TCP: iperf3, client to server.  CPU per packet: small UDP packets of answered flows, from a backlog, as bench/packets.py;
each packet crosses PREROUTING and FORWARD, for translation of answers needs PREROUTING.  New connections: datagrams with a
source port each, from a raw socket at full speed; how many per second the server gets until all are through.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

from bench.harness import PORT, Bench
from bench.packets import cpu_per_packet
from bench.result import Arguments, Axis, Figure, Plot, at_least, at_most, ratio, report, reported
from bench.subjects import NAT_CLIENT, NAT_SUBJECTS
from bench.tcp_bulk import gigabits

BACKLOG = 20_000                # packets; each waits twice
CONNECTIONS = 30_000
GIVE_UP_SECONDS = 20


def openings(server: str, count: int) -> list[bytes]:
    """UDP datagrams without a checksum from `count` source ports; the kernel fills in the IP header's."""
    ends = socket.inet_aton(NAT_CLIENT) + socket.inet_aton(server)
    return [struct.pack(">BBHHHBBH", 0x45, 0, 32, 0, 0, 64, 17, 0) + ends + struct.pack(">HHHH", 2000 + i, PORT, 12, 0) + b"open"
            for i in range(count)]


def connections_per_second(bench: Bench, name: str, count: int) -> tuple[float, int]:
    """(new connections per second, how many never arrived)."""
    server = bench.lab.server.address()
    with bench.running(name), bench.lab.client.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        packets, to = openings(server, count), (server, 0)
        raw.setsockopt(socket.SOL_SOCKET, 32, 64 << 20)         # SO_SNDBUFFORCE: queued packets stay charged to it
        raw.sendto(packets[0][:20] + struct.pack(">HHHH", 999, PORT, 12, 0) + b"arp.", to)
        time.sleep(0.2)
        before, begun = bench.delivered(), time.monotonic()
        for packet in packets:
            raw.sendto(packet, to)
        arrived, last = 0, time.monotonic()
        while arrived < count and time.monotonic() < min(last + 0.5, begun + GIVE_UP_SECONDS):
            now = bench.delivered() - before
            if now > arrived:
                arrived, last = now, time.monotonic()
        return arrived / (last - begun), count - min(arrived, count)


def main() -> int:
    parser = Arguments(__doc__, quick={"seconds": 1, "connections": 2_000, "backlog": 2_000})
    parser.add_argument("--seconds", type=int, default=3, help="of bulk TCP per run")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="new ones of a run")
    parser.add_argument("--backlog", type=int, default=BACKLOG, help="packets; each waits twice")
    options = parser.parse_args()
    bulk: dict[str, list[float]] = {name: [] for name in NAT_SUBJECTS}
    cost: dict[str, list[float]] = {name: [] for name in NAT_SUBJECTS if name != "nat_kernel"}
    fresh: dict[str, list[float]] = {name: [] for name in NAT_SUBJECTS}
    lost: dict[str, int] = dict.fromkeys(NAT_SUBJECTS, 0)
    with Bench() as bench:
        for _ in range(options.runs):
            for name in NAT_SUBJECTS:
                bulk[name].append(gigabits(bench, name, options.seconds))
                rate, missing = connections_per_second(bench, name, options.connections)
                fresh[name].append(rate)
                lost[name] += missing
                if name in cost:
                    cost[name].append(cpu_per_packet(bench, name, True, options.backlog))
    rows = [[subject.letter, subject.label, Figure.of(bulk[name]).text(), Figure.of(cost[name]).text() if name in cost else "-",
             Figure.of(fresh[name]).text(0), str(lost[name])] for name, subject in NAT_SUBJECTS.items()]
    checks = [
        at_least("MASQUERADE, bulk TCP: nfqfw / bare loop that rewrites", ratio(bulk["nat_nfqfw"], bulk["nat_bare"]), 0.9),
        at_most("MASQUERADE, CPU per packet: nfqfw / bare loop that rewrites", ratio(cost["nat_nfqfw"], cost["nat_bare"]), 1.6),
        at_least("MASQUERADE, new connections per second: nfqfw / kernel", ratio(fresh["nat_nfqfw"], fresh["nat_kernel"]), 0.5),
        reported("MASQUERADE, bulk TCP: nfqfw / kernel", ratio(bulk["nat_nfqfw"], bulk["nat_kernel"])),
    ]
    labels = {name: subject.label for name, subject in NAT_SUBJECTS.items()}
    plots = [Plot(f"nat_{name}", f"MASQUERADE: {title}", Axis(unit), Axis(""), {"": [Plot.point(labels[each], values[each]) for each in values]}, "bars")
             for name, title, unit, values in (("bulk", "bulk TCP, one stream", "Gbit/s", bulk), ("cpu", "CPU per small packet", "µs of CPU per packet", cost),
                                               ("connections", "new connections", "connections per second", fresh))]
    document = {"question": "nat", "runs": options.runs, "bulk_gbit": bulk, "cpu_us": cost, "connections_per_second": fresh, "lost": lost}
    return report(f"MASQUERADE; median (range) of {options.runs} alternated runs", bench.machine,
                  ["", "subject", "Gbit/s", "CPU µs per packet", "new connections/s", "lost"], rows, checks, document, options.json, plots)


if __name__ == "__main__":
    sys.exit(main())
