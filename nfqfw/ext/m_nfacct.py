"""match nfacct: a counting object of the kernel, which a queue cannot reach."""

from __future__ import annotations

from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import Unevaluated


@match("nfacct", Opt("nfacct-name", "string", required=True, low=1, high=31, key="name", metavar="STRING", help="name of the object"))
class Nfacct:
    def show(self, use, numeric, resolver):
        return f"nfacct-name  {use.values['name']}"

    def save(self, use):
        return f" --nfacct-name {use.values['name']}"

    def lower(self, use, rule):
        return Unevaluated("not possible: the kernel's accounting objects cannot be counted from a queue")
