"""target REJECT: drops the packet and tells its sender."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import FORWARD, INPUT, OUTPUT, KernelRefusal, Only, Opt, target
from nfqfw.ext.lowering import Action
from nfqfw.protocols import TCP

# name, other name, number in the kernel's enum; the order decides which of two an abbreviation means
KINDS4 = (
    ("icmp-net-unreachable", "net-unreach", 0), ("icmp-host-unreachable", "host-unreach", 1),
    ("icmp-proto-unreachable", "proto-unreach", 2), ("icmp-port-unreachable", "port-unreach", 3),
    ("icmp-net-prohibited", "net-prohib", 5), ("icmp-host-prohibited", "host-prohib", 6),
    ("tcp-reset", "tcp-rst", 7), ("icmp-admin-prohibited", "admin-prohib", 8),
)
KINDS6 = (
    ("icmp6-no-route", "no-route", 0), ("icmp6-adm-prohibited", "adm-prohibited", 1),
    ("icmp6-addr-unreachable", "addr-unreach", 3), ("icmp6-port-unreachable", "port-unreach", 4),
    ("tcp-reset", "tcp-reset", 6), ("icmp6-policy-fail", "policy-fail", 7), ("icmp6-reject-route", "reject-route", 8),
)
ONLY = Only(tables=("filter",), hooks=(INPUT, FORWARD, OUTPUT))
OPT = Opt("reject-with", "own", key="kind", metavar="type", help="what the sender is told; by default port unreachable")


class Reject:
    """Both families; they differ in their tables."""

    kinds = KINDS4
    default = 3
    reset = 7

    def read_kind(self, draft, opt, text, env):
        lowered = text.lower()
        for name, other, number in self.kinds:
            if lowered and (name.startswith(lowered) or other.startswith(lowered)):
                draft.values["kind"] = number
                return
        raise RuleError(f'unknown reject type "{text}"')

    def final(self, draft, env):
        draft.values.setdefault("kind", self.default)

    def kind_name(self, use) -> str:
        return next(name for name, _, number in self.kinds if number == use.values["kind"])

    def save(self, use):
        return f" --reject-with {self.kind_name(use)}"

    def show(self, use, numeric, resolver):
        return f"reject-with {self.kind_name(use)}"

    def check(self, use, rule):
        if use.values["kind"] == self.reset and (rule.protocol != TCP or rule.protocol_inverted):
            raise KernelRefusal("EINVAL", "TCP_RESET invalid for non-tcp")

    def lower(self, use, rule):
        return Action("reject", struct.pack("<B3x", use.values["kind"]))

    def help_more(self):
        return ["Valid reject types:", *(f"    {name:<24}{other}" for name, other, _ in self.kinds)]


@target("REJECT", OPT, families=(2,), only=ONLY)
class Reject4(Reject):
    pass


@target("REJECT", OPT, families=(10,), only=ONLY)
class Reject6(Reject):
    kinds = KINDS6
    default = 4
    reset = 6
