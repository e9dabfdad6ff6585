"""targets MASQUERADE and REDIRECT: SNAT and DNAT to an address of the interface at hand."""

from __future__ import annotations

from nfqfw.errors import RuleError
from nfqfw.ext import natrange
from nfqfw.ext.api import OUTPUT, POSTROUTING, PREROUTING, Only, Opt, target

TO_PORTS = Opt("to-ports", "own", metavar="port[-port]", help="ports to choose from")
RANDOM = Opt("random", help="start the search for a port anywhere")
RANDOM_FULLY = Opt("random-fully", help="the same")


class OwnAddress:
    nat_kind = natrange.MASQUERADE
    words = ""
    reroutes = False

    def read_to_ports(self, draft, opt, text, env):
        natrange.need_ports(env)
        low, high, base = natrange.read_ports(text, env.resolver)
        if base is not None:
            raise RuleError("Shifted portmap ranges not supported with this kernel")
        draft.values["to_ports"] = (low, high)

    def flags(self, use) -> int:
        return natrange.random_flags(use.values) | (natrange.PORTS if "to_ports" in use.values else 0)

    def ports_text(self, use, prefix: str) -> str:
        ports = use.values.get("to_ports")
        return "" if ports is None else prefix + natrange.ports_text(0, ports, 0)

    def save(self, use):
        return self.ports_text(use, " --to-ports ") + natrange.random_words(self.flags(use), "--")

    def show(self, use, numeric, resolver):
        return (self.ports_text(use, self.words) + natrange.random_words(self.flags(use), "")).removeprefix(" ")

    def lower(self, use, rule):
        return natrange.action(self.nat_kind, 0, self.flags(use), ports=use.values.get("to_ports", (0, 0)), reroutes=self.reroutes)


@target("MASQUERADE", TO_PORTS, RANDOM, RANDOM_FULLY, only=Only(("nat",), (POSTROUTING,)))
class Masquerade(OwnAddress):
    words = "masq ports: "


@target("REDIRECT", TO_PORTS, RANDOM, only=Only(("nat",), (PREROUTING, OUTPUT)))
class Redirect(OwnAddress):
    nat_kind = natrange.REDIRECT
    words = "redir ports "
    reroutes = True
