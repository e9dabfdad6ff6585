"""What does a hostile fragment cost beside an honest one?  No kernel: batches of 64 through the engine, side by side.

Honest: datagrams of 800 bytes in two fragments, tracked and accepted by their port.  Hostile: fragments that never make a
whole, or overlap, from one source and from 10,000, with the table full.  ns per fragment; the issue asks for at most 3 x.
"""

from __future__ import annotations

import struct
import sys

from bench.result import Arguments, Axis, Figure, Machine, Plot, at_most, ratio, report

RULES = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n" \
        "-A FORWARD -p udp -m udp --dport 53 -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT\nCOMMIT\n"
FORWARD = 2
FRAGMENTS = 40_000              # of a run
SECOND = 10**9


def fragment(src: int, ident: int, offset: int, more: int, data: bytes):
    """An IPv4 UDP fragment; offset in units of 8 bytes."""
    from nfqfw.packets import PacketIn

    header = struct.pack("!BBHHHBBHI4s", 0x45, 0, 20 + len(data), ident & 0xFFFF, more << 13 | offset, 64, 17, 0, src, b"\x0a\0\2\2")
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return PacketIn(header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:] + data, FORWARD, 2, 3)


def honest(n: int) -> list:
    data = struct.pack("!HHHH", 5, 53, 808, 0) + b"h" * 800
    return [fragment(0x0A000102 + n % 200, n, 0, 1, data[:400]), fragment(0x0A000102 + n % 200, n, 50, 0, data[400:])]


def never(sources: int):
    return lambda n: [fragment(0xC0000200 + n % sources, n // sources, 1 + n % 5, 1, b"z" * 400)]


def overlapping(sources: int):
    return lambda n: [fragment(0xC0000200 + n % sources, n // sources // 4, n % 7, 1, b"z" * 400)]


KINDS = {
    "honest, two per datagram": honest,
    "never complete, 1 source": never(1), "never complete, 10,000 sources": never(10_000),
    "overlapping, 1 source": overlapping(1), "overlapping, 10,000 sources": overlapping(10_000),
}


def engine():
    from nfqfw._conntrack import ConntrackTable
    from nfqfw._engine import Engine, LoadedProgram
    from nfqfw.compile import compile_rulesets
    from nfqfw.host import Host
    from nfqfw.rules import load

    made = Engine(ConntrackTable(limit=1 << 16), Host.offline({"eth0": ["10.0.1.1/24"], "eth1": ["10.0.2.1/24"]}).block, attached=0b01110)
    made.load(LoadedProgram(compile_rulesets([load(RULES, "bench", 2)])))
    return made


def measure(make, run: int) -> float:
    """ns per fragment, the second half of a run: the table is full by then."""
    packets = []
    n = run * FRAGMENTS
    while len(packets) < FRAGMENTS:
        packets += make(n)
        n += 1
    half = len(packets) // 2
    under = engine()
    under.drive(packets[:half], 1, 64, SECOND, 50_000)
    spent = under.drive(packets[half:], 1, 64, 2 * SECOND, 50_000)
    return spent["ns"] / spent["packets"]


def main() -> int:
    parser = Arguments(__doc__)
    options = parser.parse_args()
    taken: dict[str, list[float]] = {name: [] for name in KINDS}
    for run in range(options.runs):
        for name, make in KINDS.items():
            taken[name].append(measure(make, run))
    base, *others = KINDS
    rows = [["", name, Figure.of(values).text(0), f"{ratio(values, taken[base]):.2f}"] for name, values in taken.items()]
    checks = [at_most(f"fragments {name} / honest ones", ratio(taken[name], taken[base]), 3) for name in others]
    plot = Plot("fragments", "Engine time per fragment, honest and hostile", Axis("ns per fragment"), Axis(""),
                {"": [Plot.point(name, values) for name, values in taken.items()]}, "bars")
    return report(f"Fragments, {options.runs} runs of {FRAGMENTS:,}", Machine.this(), ["", "kind", "ns per fragment", "ratio"], rows,
                  checks, {"question": "fragments", "kinds": {n: Figure.of(v)._asdict() for n, v in taken.items()}}, options.json, [plot])


if __name__ == "__main__":
    sys.exit(main())
