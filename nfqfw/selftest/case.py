"""A case: one ruleset, one sequence of packets, for one family."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from nfqfw.selftest.packets import Packet
from nfqfw.selftest.outcome import Outcome

POINTS = ("client", "server", "local")      # where a packet enters: the link of either side, or sent by the router itself

CHAINS = {                                  # built-in chains per table, in iptables-save's order
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}


@dataclass(slots=True)
class Step:
    delay: float                            # seconds since the packet before
    point: str
    packet: Packet
    ctstate: str = ""                       # what a human expects: class of the packet, then state of its connection
    state: str = ""
    command: str = ""                       # instead of a packet: arguments of a tool, asked of the real one and of ours
    tool: str = "conntrack"                 # or nfct


@dataclass(slots=True)
class Case:
    family: int
    rules: str                              # iptables-save text; tables that are not in it are empty
    steps: list[Step]
    name: str = ""
    settings: dict[str, str] = field(default_factory=dict)      # nf_conntrack_* and other sysctls, without net.netfilter.
    policies: list[str] = field(default_factory=list)           # nfct commands that make the time-out policies which the rules name

    def whole_rules(self) -> str:
        """The rules with every table: what iptables-restore needs to leave nothing of the case before."""
        return self.rules + "".join(empty_table(t) for t in CHAINS if f"*{t}\n" not in self.rules)


def first_sent(steps: list[Step], step: Step) -> int:
    """Transport bytes in the first fragment of the datagram that this one belongs to, the shortest if there are several."""
    return min((s.packet.size for s in steps if s.packet.proto == "frag" and s.packet.offset == 0 and s.packet.id == step.packet.id), default=0)


def salted(case: Case, salt: int) -> Case:
    """The same case with other IP ids and other named tables: what a run that just went by left in the kernel is not met."""
    rules = re.sub(r"name q(\d+)", lambda found: f"name q{found[1]}x{salt}", case.rules)
    return replace(case, rules=rules, steps=[replace(s, packet=_salted(s.packet, salt)) for s in case.steps])


def _salted(p: Packet, salt: int) -> Packet:
    inner = _salted(p.inner, salt) if p.inner is not None else None
    return replace(p, id=(p.id + salt * 64) % 65000 + 1 if p.id else 0, inner=inner)


def empty_table(table: str) -> str:
    return f"*{table}\n" + "".join(f":{c} ACCEPT [0:0]\n" for c in CHAINS[table]) + "COMMIT\n"


__all__ = ["CHAINS", "POINTS", "Case", "Outcome", "Step", "empty_table", "first_sent", "salted"]
