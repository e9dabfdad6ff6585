"""match multiport."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext import names
from nfqfw.ext.api import KernelRefusal, Opt, match
from nfqfw.ext.lowering import READS_FLOW, Test, field
from nfqfw.ext.ports import port_text
from nfqfw.limits import MULTIPORT_SLOTS
from nfqfw.protocols import DCCP, SCTP, TCP, UDP, UDPLITE

WITH_PORTS = (TCP, UDP, UDPLITE, SCTP, DCCP)
SIDES = {"source-ports": 1, "destination-ports": 2, "ports": 3}
ALL_SIDES = tuple(SIDES)
WORDS = {1: "sports", 2: "dports", 3: "ports"}


def check_protocol(env) -> None:
    """multiport looks at the rule's protocol while it reads: -p must stand before it."""
    if env.protocol == 0:
        raise RuleError("multiport needs `-p tcp', `-p udp', `-p udplite', `-p sctp' or `-p dccp'")
    if env.protocol_inverted or env.protocol not in WITH_PORTS:
        raise RuleError("multiport only works with TCP, UDP, UDPLITE, SCTP and DCCP")


def parse_list(text: str, env) -> tuple[tuple[int, int], ...]:
    """`a,b:c`; a range takes two of the 15 slots."""
    proto = names.transport_name(env.protocol)
    out, slots = [], 0
    for word in text.split(","):
        low_text, colon, high_text = word.partition(":")
        slots += 2 if colon else 1
        if slots > MULTIPORT_SLOTS:
            raise RuleError("too many ports specified")
        low = names.parse_port(low_text, proto, env.resolver)
        high = names.parse_port(high_text, proto, env.resolver) if colon else low
        if colon and low >= high:
            raise RuleError("invalid portrange specified")
        out.append((low, high))
    return tuple(out)


@match("multiport",
       Opt("source-ports", "own", aliases=("sports",), key="ports", invert=True, excludes=ALL_SIDES, metavar="port[,port:port...]",
           help="source port is one of these"),
       Opt("destination-ports", "own", aliases=("dports",), key="ports", invert=True, excludes=ALL_SIDES,
           metavar="port[,port:port...]", help="destination port is one of these"),
       Opt("ports", "own", key="ports", invert=True, excludes=ALL_SIDES, metavar="port[,port:port...]",
           help="source or destination port is one of these"))
class Multiport:
    def read_ports(self, draft, opt, text, env):
        check_protocol(env)
        draft.values["ports"] = parse_list(text, env)
        draft.values["side"] = SIDES[opt.name]
        draft.values["proto"] = env.protocol        # for the names of services in -L

    def final(self, draft, env):
        if "ports" not in draft.values:
            raise RuleError("no ports specified")

    def save(self, use):
        ports = ",".join(f"{low}" if low == high else f"{low}:{high}" for low, high in use.values["ports"])
        return f"{' !' if 'ports' in use.inverted else ''} --{WORDS[use.values['side']]} {ports}"

    def show(self, use, numeric, resolver):
        proto = use.values["proto"]
        ports = ",".join(port_text(low, proto, numeric, resolver) if low == high else
                         f"{port_text(low, proto, numeric, resolver)}:{port_text(high, proto, numeric, resolver)}"
                         for low, high in use.values["ports"])
        return f"multiport {WORDS[use.values['side']]} {' !' if 'ports' in use.inverted else ''}{ports}"

    def check(self, use, rule):
        if rule.protocol not in WITH_PORTS or rule.protocol_inverted:
            raise KernelRefusal("EINVAL")

    def lower(self, use, rule):
        ports, side, inverted = use.values["ports"], use.values["side"], "ports" in use.inverted
        flat = [port for ends in ports for port in ends]
        info = struct.pack("<4B30H", side, len(ports), inverted, 0, *flat, *[0] * (30 - len(flat)))
        fields = () if side == 3 else (field(WORDS[side][:-1], ports, inverted, 65535),)
        return [Test("multiport", info, fields, reads=READS_FLOW)]
