"""match cpu: the processor that handles the packet, which a queue is not told."""

from __future__ import annotations

from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import Unevaluated


@match("cpu", Opt("cpu", "u32", required=True, invert=True, metavar="number", help="number of the CPU"))
class Cpu:
    def show(self, use, numeric, resolver):
        return f"cpu {'! ' if 'cpu' in use.inverted else ''}{use.values['cpu']}"

    def lower(self, use, rule):
        return Unevaluated("not possible: a queue is not told the CPU")
