"""target ECN: the ECT codepoint (IPv4), ECE and CWR of TCP."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import KernelRefusal, Only, Opt, target
from nfqfw.ext.lowering import Action
from nfqfw.protocols import TCP

SET_IP, SET_ECE, SET_CWR = 0x01, 0x10, 0x20     # IPT_ECN_OP_* of the kernel


@target("ECN",
        Opt("ecn-tcp-remove", excludes=("ecn-tcp-cwr", "ecn-tcp-ece"), help="clear ECE and CWR of the TCP header"),
        Opt("ecn-ip-ect", "u8", key="ect", high=3, metavar="0..3", help="the codepoint of the IP header"),
        Opt("ecn-tcp-cwr", "u8", key="cwr", high=1, excludes=("ecn-tcp-remove",), metavar="0|1", help="CWR of the TCP header"),
        Opt("ecn-tcp-ece", "u8", key="ece", high=1, excludes=("ecn-tcp-remove",), metavar="0|1", help="ECE of the TCP header"),
        families=(2,), only=Only(("mangle",)))
class Ecn:
    def final(self, draft, env):
        values = draft.values
        if not values:
            raise RuleError("ECN target: An operation is required")
        if values.pop("ecn_tcp_remove", None):
            values["ece"] = values["cwr"] = 0

    def parts(self, use):
        """(save form, list form) of what it does, in the order of the kernel's bits."""
        values = use.values
        if values.get("ece") == 0 and values.get("cwr") == 0:
            yield " --ecn-tcp-remove", " TCP remove"
        else:
            for key in ("ece", "cwr"):
                if key in values:
                    yield f" --ecn-tcp-{key} {values[key]}", f" {key.upper()}={values[key]}"
        if "ect" in values:
            yield f" --ecn-ip-ect {values['ect']}", f" ECT codepoint={values['ect']}"

    def save(self, use):
        return "".join(saved for saved, _ in self.parts(use))

    def show(self, use, numeric, resolver):
        return "ECN" + "".join(listed for _, listed in self.parts(use))

    def check(self, use, rule):
        if ("ece" in use.values or "cwr" in use.values) and (rule.protocol != TCP or rule.protocol_inverted):
            raise KernelRefusal("EINVAL", "cannot use operation on non-tcp rule")

    def lower(self, use, rule):
        values = use.values
        operation = (SET_IP if "ect" in values else 0) | (SET_ECE if "ece" in values else 0) | (SET_CWR if "cwr" in values else 0)
        info = struct.pack("<BBBB", operation, values.get("ect", 0), values.get("ece", 0), values.get("cwr", 0))
        return Action("ecn", info, ("rewrites", "reroutes"))
