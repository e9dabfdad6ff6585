"""A firewall in-process: rules in, packets through the same engine that runs live, decisions out."""

from __future__ import annotations

import struct

from nfqfw._conntrack import ConntrackTable
from nfqfw._engine import Engine, LoadedProgram
from nfqfw.compile import compile_rulesets
from nfqfw.packets import FORWARD, INPUT, OUTPUT, PREROUTING, PacketIn
from nfqfw.plan import hook_mask
from nfqfw.reasons import REASONS
from nfqfw.rules import load

SECOND = 1_000_000_000
HOST = struct.Struct("<IIQ12I")
INTERFACE = struct.Struct("<II16sIIIHH")
ADDRESS = struct.Struct("<IBBHI16s16sI")
NAMES = {"lo": 1, "eth0": 2, "eth1": 3}


def packed(address: str) -> bytes:
    import ipaddress
    return ipaddress.ip_address(address).packed.ljust(16, b"\0")


def host_block(addresses=((1, "127.0.0.1", 8, ""), (2, "10.0.1.1", 24, "10.0.1.255"), (3, "10.0.2.1", 24, "10.0.2.255"),
                          (1, "::1", 128, ""), (2, "2001:db8:1::1", 64, ""), (3, "2001:db8:2::1", 64, "")),
               icmp=(0, 0, 1000, 50, 0)) -> bytes:
    """A Host by hand: lo, eth0 (10.0.1.1/24), eth1 (10.0.2.1/24); ICMP: no limit per peer, 50 at once."""
    interfaces = b"".join(
        INTERFACE.pack(index, 9 if name == "lo" else 1, name.encode(), 65536 if name == "lo" else 1500, 0, 0,
                       772 if name == "lo" else 1, 0) for name, index in NAMES.items())
    rows = sorted(((10 if ":" in a else 2), packed(a), index, prefix, bcast) for index, a, prefix, bcast in addresses)
    table = b"".join(ADDRESS.pack(index, family, prefix, 0, 0, raw, packed(bcast) if bcast else b"", n)
                     for n, (family, raw, index, prefix, bcast) in enumerate(rows))
    ratelimit, ratemask, per_second, burst, ratelimit6 = icmp
    size = HOST.size + len(interfaces) + len(table)
    header = HOST.pack(0x6E665148, size, 1, len(NAMES), HOST.size, len(rows), HOST.size + len(interfaces), 0, size,
                       ratelimit, ratemask, per_second, burst, ratelimit6, 64)
    return header + interfaces + table


class Firewall:
    """One engine with a ruleset.  hooks: which hooks are attached (default: the filter plan)."""

    def __init__(self, v4: str = "", v6: str = "", hooks=("INPUT", "FORWARD", "OUTPUT"), host: bytes | None = None, **table):
        rulesets = [load(text, name, family) for text, name, family in ((v4, "rules.v4", 2), (v6, "rules.v6", 10)) if text]
        self.program = compile_rulesets(rulesets)
        self.loaded = LoadedProgram(self.program)
        self.table = ConntrackTable(**table)
        self.engine = Engine(self.table, host if host is not None else host_block(), attached=hook_mask(frozenset(hooks)))
        self.engine.load(self.loaded)
        self.now = 1000 * SECOND

    def cross(self, data, hook, ifin="", ifout="", **facts):
        """One packet (bytes or scapy) at one hook."""
        packet = PacketIn(bytes(data), hook, NAMES.get(ifin, 0), NAMES.get(ifout, 0), **facts)
        return self.engine.one(packet, self.now, self.now)

    def forward(self, data, ifin="eth0", ifout="eth1", **facts):
        return self.cross(data, FORWARD, ifin, ifout, **facts)

    def back(self, data, **facts):
        return self.cross(data, FORWARD, "eth1", "eth0", **facts)

    def local_in(self, data, ifin="eth0", **facts):
        return self.cross(data, INPUT, ifin, **facts)

    def local_out(self, data, ifout="eth0", **facts):
        return self.cross(data, OUTPUT, "", ifout, **facts)

    def prerouting(self, data, ifin="eth0", **facts):
        return self.cross(data, PREROUTING, ifin, **facts)

    def counters(self, chain: str, table: str = "filter", family: int = 2) -> list[tuple[int, int]]:
        """(packets, bytes) of the chain's rules and, last, of its policy (built-in chains)."""
        values = self.loaded.counters_list()
        for number, info in enumerate(self.program.chains):
            if (info.family, info.table, info.chain.name) == (family, table, chain):
                rows = [values[row] for row, owner in enumerate(self.program.rule_chain) if owner == number]
                if info.policy_counter != 0xFFFFFFFF:
                    rows.append(values[info.policy_counter])
                return rows
        raise KeyError(chain)

    def reason(self, decision) -> str:
        return REASONS[decision.reason]
