"""match ipvs: connections of the kernel's load balancer, which a queue is not told."""

from __future__ import annotations

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import Unevaluated

METHODS, DIRECTIONS = ("GATE", "IPIP", "MASQ"), ("ORIGINAL", "REPLY")
PRINTED = ("ipvs", "vproto", "vaddr", "vport", "vdir", "vmethod", "vportctl")


@match("ipvs", Opt("ipvs", invert=True, help="belongs to an IPVS connection"),
       Opt("vproto", "protocol", invert=True, metavar="protocol", help="protocol of the virtual service"),
       Opt("vaddr", "hostmask", invert=True, metavar="address[/mask]", help="its address"),
       Opt("vport", "u16", invert=True, metavar="port", help="its port"),
       Opt("vdir", "own", metavar="{ORIGINAL|REPLY}", help="direction of the packet"),
       Opt("vmethod", "own", invert=True, metavar="{GATE|IPIP|MASQ}", help="how it is forwarded"),
       Opt("vportctl", "u16", invert=True, metavar="port", help="port of the controlling connection"))
class Ipvs:
    def read_vdir(self, draft, opt, text, env):
        if text.upper() not in DIRECTIONS:
            raise RuleError(f'ipvs: Bad value for "--vdir" option: "{text}"')
        draft.values["vdir"] = text.upper()

    def read_vmethod(self, draft, opt, text, env):
        if text.upper() not in METHODS:
            raise RuleError(f'ipvs: Bad value for "--vmethod" option: "{text}"')
        draft.values["vmethod"] = text.upper()

    def final(self, draft, env):
        if not draft.seen:
            raise RuleError("IPVS: At least one option is required")

    def words(self, use, dash: str) -> str:
        out = ""
        for key in PRINTED:
            if key in use.values and not (key == "ipvs" and len(use.values) > 1):
                value = use.values[key]
                text = "" if value is True else " " + (self.by_name[key].text(value) if key not in ("vdir", "vmethod") else value)
                out += f"{' !' if key in use.inverted else ''} {dash}{key}{text}"
        return out

    def save(self, use):
        return self.words(use, "--")

    def show(self, use, numeric, resolver):
        return self.words(use, "").lstrip()

    def lower(self, use, rule):
        return Unevaluated("not possible: a queue is not told IPVS connections")
