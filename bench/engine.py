"""How long does the engine itself take for a packet?  No kernel, no traffic: batches of 64 through the same C door as live.

ns per packet, the smallest of several runs: what disturbs a run only adds.  Idle housekeeping of the engine is not in it.  Known
flows remember what they met in the ruleset; "walked" is the same with that switched off.  About a minute: opening a million flows.
"""

from __future__ import annotations

import struct
import sys
import time
from typing import NamedTuple

from bench.result import Arguments, Axis, Check, Figure, Machine, Plot, at_most, report
from bench.subjects import demo_program
from bench.wire import checksum, ipv4

FORWARD, BATCH = 2, 64
CLIENT, SERVER = bytes([10, 0, 1, 2]), bytes([10, 0, 2, 2])
PACKETS = 1 << 17               # of a run


class Case(NamedTuple):
    label: str
    flows: int                  # UDP flows, 0 = the packet as it is
    answered: bool = True
    tcp: bool = False
    cache: bool = True          # known flows remember what they met
    most: float = 0             # ns per packet asked for, 0 = none


CASES = (
    Case("UDP, 1 known flow", 1),
    Case("UDP, 10,000 known flows, random", 10_000, most=100),
    Case("UDP, 10,000 known flows, random, walked", 10_000, cache=False),
    Case("UDP, 200,000 known flows, random", 200_000),
    Case("UDP, 1,000,000 known flows, random", 1_000_000, most=160),
    Case("UDP, 10,000 unanswered flows", 10_000, answered=False),
    Case("UDP, 10,000 unanswered flows, walked", 10_000, answered=False, cache=False),
    Case("TCP, 1 known flow, 1,448 bytes", 0, tcp=True),
)


def udp(reply: bool, flow: int = 0) -> bytes:
    """Checksum 0 = none (RFC 768), so that ports can change without it."""
    ports = (1024 + flow % 64000, 1024 + flow // 64000)
    ends = (SERVER, CLIENT) if reply else (CLIENT, SERVER)
    return ipv4(*ends, 17, struct.pack("!HHHH", *(ports[::-1] if reply else ports), 26, 0) + b"18 bytes of data..")


def tcp(reply: bool, flags: int, seq: int, ack: int, size: int = 0) -> bytes:
    ends = (SERVER, CLIENT) if reply else (CLIENT, SERVER)
    ports = (443, 40000) if reply else (40000, 443)
    segment = struct.pack("!HHIIBBHHH", *ports, seq, ack, 0x50, flags, 65535, 0, 0) + bytes(size)
    total = checksum(segment + b"".join(ends) + struct.pack("!HH", 6, len(segment)))
    return ipv4(*ends, 6, segment[:16] + total.to_bytes(2) + segment[18:])


class Rig:
    """An engine with the demo ruleset and a Feed to it."""

    def __init__(self, case: Case):
        from nfqfw._conntrack import ConntrackTable
        from nfqfw._engine import Engine, LoadedProgram
        from nfqfw.host import Host
        from nfqfw.queue._feed import Feed

        self.host = Host.offline({"eth0": ["10.0.1.1/24"], "eth1": ["10.0.2.1/24"]})
        self.table = ConntrackTable(limit=1 << 21)
        self.engine = Engine(self.table, self.host.block, attached=0b01110, flow_cache=case.cache)     # INPUT, FORWARD, OUTPUT
        self.loaded = LoadedProgram(demo_program())
        self.engine.load(self.loaded)
        self.feed = Feed(self.engine)
        self.now = 10**12
        self.id = 0

    def add(self, data: bytes, reply: bool = False) -> None:
        self.id += 1
        self.feed.add(data, FORWARD, id=self.id, ifin=3 if reply else 2, ifout=2 if reply else 3)

    def run(self) -> list:
        self.now += 1000
        return self.feed.run(self.now, time.time_ns())

    def open(self, case: Case) -> None:
        """Make the flows known, to themselves too; RuntimeError if the ruleset does not accept them."""
        if case.tcp:
            for data, reply in ((tcp(False, 2, 999, 0), False), (tcp(True, 18, 4999, 1000), True), (tcp(False, 16, 1000, 5000), False)):
                self._accepted(data, reply)
            return
        for first in range(0, case.flows, BATCH):
            flows = range(first, min(case.flows, first + BATCH))
            for reply in (False, True, False) if case.answered else (False, False):
                for flow in flows:
                    self.add(udp(reply, flow), reply)
                if any(decision.verdict != 1 for decision in self.run()):
                    raise RuntimeError("the ruleset drops what is to be measured")

    def _accepted(self, data: bytes, reply: bool) -> None:
        self.add(data, reply)
        if self.run()[0].verdict != 1:
            raise RuntimeError("the ruleset drops what is to be measured")

    def measure(self, case: Case, packets: int) -> float:
        """ns per packet."""
        rounds = packets // BATCH
        for _ in range(BATCH):
            self.add(tcp(False, 16, 1000, 5000, 1448) if case.tcp else udp(False))
        self.feed.measure(rounds // 8, case.flows, self.now, time.time_ns())
        spent = self.feed.measure(rounds, case.flows, self.now, time.time_ns())
        if any(decision.verdict != 1 for decision in self.run()):
            raise RuntimeError("measured packets were dropped")
        return spent / rounds / BATCH


def main() -> int:
    parser = Arguments(__doc__, runs=7, quick={"packets": 1 << 14})
    parser.add_argument("--packets", type=int, default=PACKETS, help="of a run")
    parser.add_argument("--case", type=int, choices=range(len(CASES)), help="only this one (for a profiler)")
    options = parser.parse_args()
    figures = {}
    for number, case in enumerate(CASES):
        if options.case in (None, number):
            rig = Rig(case)
            rig.open(case)
            figures[case.label] = Figure.of([rig.measure(case, options.packets) for _ in range(options.runs)])
    lines = [["", label, f"{figure.low:,.0f}", f"{figure.median:,.0f}"] for label, figure in figures.items()]
    checks: list[Check] = [at_most(f"{case.label}: ns per packet", figures[case.label].low, case.most)
                           for case in CASES if case.most and case.label in figures]
    plot = Plot("engine", "Engine alone, time per packet: smallest of the runs, up to the median", Axis("ns per packet"), Axis(""),
                {"": [(label, figure.low, figure.low, figure.median) for label, figure in figures.items()]}, "bars")
    return report(f"Engine alone, demo ruleset, {options.runs} runs of {options.packets:,} packets", Machine.this(),
                  ["", "case", "ns per packet, smallest", "median"], lines, checks,
                  {"question": "engine", "cases": {label: figure._asdict() for label, figure in figures.items()}}, options.json, [plot])


if __name__ == "__main__":
    sys.exit(main())
