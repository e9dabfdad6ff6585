"""target IDLETIMER: tells user space when a rule has been idle."""

from __future__ import annotations

from nfqfw.ext.api import KernelRefusal, Opt, target
from nfqfw.ext.lowering import Unevaluated


@target("IDLETIMER", Opt("timeout", "u32", required=True, metavar="time", help="seconds without a packet"),
        Opt("label", "string", required=True, high=27, metavar="string", help="name of the timer"),
        Opt("alarm", help="go on counting while the host sleeps"))
class Idletimer:
    def save(self, use):
        return f" --timeout {use.values['timeout']} --label {use.values['label']}" + (" --alarm" if "alarm" in use.values else "")

    def show(self, use, numeric, resolver):
        return f"timeout:{use.values['timeout']} label:{use.values['label']}" + (" alarm" if "alarm" in use.values else "")

    def check(self, use, rule):
        if use.values["timeout"] == 0:
            raise KernelRefusal("EINVAL", "timeout value is zero")

    def lower(self, use, rule):
        return Unevaluated("not possible: the timers of the kernel cannot be made from a queue")
