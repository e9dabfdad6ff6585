"""target TCPMSS: the maximum segment size of a SYN."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import FORWARD, OUTPUT, POSTROUTING, KernelRefusal, Opt, target
from nfqfw.ext.lowering import Action
from nfqfw.protocols import TCP

CLAMP = 0xFFFF
SYN = 2
CLAMP_HOOKS = 1 << FORWARD | 1 << OUTPUT | 1 << POSTROUTING


class Tcpmss:
    check_needs_hooks = True

    def read_mss(self, draft, opt, text, env):
        draft.values["mss"] = opt.reader(text, opt, "TCPMSS", env) if opt.reader else CLAMP

    def final(self, draft, env):
        if "mss" not in draft.values:
            raise RuleError("TCPMSS target: At least one parameter is required")

    def save(self, use):
        mss = use.values["mss"]
        return " --clamp-mss-to-pmtu" if mss == CLAMP else f" --set-mss {mss}"

    def show(self, use, numeric, resolver):
        mss = use.values["mss"]
        return "TCPMSS clamp to PMTU" if mss == CLAMP else f"TCPMSS set {mss}"

    def check(self, use, rule):
        if rule.protocol != TCP or rule.protocol_inverted:
            raise KernelRefusal("EINVAL")
        if use.values["mss"] == CLAMP and rule.hooks & ~CLAMP_HOOKS:
            raise KernelRefusal("EINVAL", "path-MTU clamping only supported in FORWARD, OUTPUT and POSTROUTING hooks")
        if not any(tests_syn(match) for match in rule.matches):
            raise KernelRefusal("EINVAL", "Only works on TCP SYN packets")

    def lower(self, use, rule):
        return Action("tcpmss", struct.pack("<HH", use.values["mss"], 0), ("rewrites",))


def tests_syn(use) -> bool:
    """A tcp match that wants SYN set and inverts nothing."""
    if use.name != "tcp" or use.inverted:
        return False
    mask_and_flags = use.values.get("flags")
    return mask_and_flags is not None and bool(mask_and_flags[1] & SYN)


def options(high: int) -> tuple[Opt, ...]:
    return (Opt("set-mss", "u16", key="mss", high=high, metavar="value", help="this size, if it is smaller than what the packet says"),
            Opt("clamp-mss-to-pmtu", key="mss", help="path MTU less the headers"))


@target("TCPMSS", *options(65535 - 20), families=(2,))
class Tcpmss4(Tcpmss):
    pass


@target("TCPMSS", *options(65535 - 40), families=(10,))
class Tcpmss6(Tcpmss):
    pass
