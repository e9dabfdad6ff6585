"""match rpfilter: whether an answer would leave by the interface that the packet came in by."""

from __future__ import annotations

from nfqfw.ext.api import PREROUTING, Only, Opt, match
from nfqfw.ext.lowering import Unevaluated

WORDS = ("loose", "validmark", "accept-local", "invert")


@match("rpfilter", Opt("loose", help="any interface will do"), Opt("validmark", help="look the route up with the packet's mark"),
       Opt("accept-local", help="a local source is no reason to reject"), Opt("invert", help="true for packets that fail"),
       only=Only(tables=("raw", "mangle"), hooks=(PREROUTING,)))
class Rpfilter:
    def save(self, use):
        return "".join(f" --{word}" for word in WORDS if word.replace("-", "_") in use.values)

    def show(self, use, numeric, resolver):
        return "rpfilter" + "".join(f" {word}" for word in WORDS if word.replace("-", "_") in use.values)

    def lower(self, use, rule):
        return Unevaluated("not evaluated yet: rpfilter: needs the route back to a source")
