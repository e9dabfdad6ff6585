"""target TEE: sends a copy of the packet to another host on a connected network."""

from __future__ import annotations

from nfqfw.ext import names
from nfqfw.ext.api import KernelRefusal, Opt, target
from nfqfw.ext.lowering import Unevaluated


@target("TEE", Opt("gateway", "host", required=True, metavar="IPADDR", help="where the copy goes"),
        Opt("oif", "string", metavar="NAME", help="interface by which it leaves"))
class Tee:
    def read_oif(self, draft, opt, text, env):
        draft.values["oif"] = text[:15]

    def save(self, use):
        return f" --gateway {names.address_text(use.values['gateway'])}" + (f" --oif {use.values['oif']}" if "oif" in use.values else "")

    def show(self, use, numeric, resolver):
        return f"TEE gw:{names.address_text(use.values['gateway'])}" + (f" oif={use.values['oif']}" if "oif" in use.values else "")

    def check(self, use, rule):
        if not any(use.values["gateway"]):
            raise KernelRefusal("EINVAL")

    def lower(self, use, rule):
        return Unevaluated("not evaluated yet: TEE: needs a copy sent by a route of its own")
