"""targets SNAT and DNAT: a new source or destination out of a range."""

from __future__ import annotations

from nfqfw.ext import natrange
from nfqfw.ext.api import INPUT, OUTPUT, POSTROUTING, PREROUTING, Only, Opt, target

RANDOM = Opt("random", help="start the search for a port anywhere")
RANDOM_FULLY = Opt("random-fully", help="the same")
PERSISTENT = Opt("persistent", help="one client gets one address, whatever it talks to")
METAVAR = "[address[-address]][:port[-port]]"


class Nat:
    """Both; they differ in names and hooks."""

    option = ""
    reroutes = False

    def read_to(self, draft, opt, text, env):
        draft.values["to"] = self.known(natrange.read_to(text, env), env)

    def known(self, value, env):
        """What the kernel is told of the range."""
        return value

    def flags(self, use) -> int:
        return use.values["to"]["flags"] | natrange.random_flags(use.values)

    def save(self, use):
        return f" --{self.option} {natrange.to_text(use.values['to'])}" + natrange.random_words(self.flags(use), "--")

    def show(self, use, numeric, resolver):
        return f"to:{natrange.to_text(use.values['to'])}" + natrange.random_words(self.flags(use), "")

    def lower(self, use, rule):
        to = use.values["to"]
        family = {4: 2, 16: 10}.get(len(to["first"]), 0)
        return natrange.action(natrange.RANGE, family, self.flags(use), to["first"], to["last"], to["ports"], to["base"], self.reroutes)


@target("SNAT", Opt("to-source", "own", key="to", required=True, metavar=METAVAR, help="the new source"),
        RANDOM, RANDOM_FULLY, PERSISTENT, only=Only(("nat",), (INPUT, POSTROUTING)))
class Snat(Nat):
    option = "to-source"

    def known(self, value, env):
        value["base"] = 0               # SNAT has no room for it in the kernel's data: a shift counts from port 0
        return value


@target("DNAT", Opt("to-destination", "own", key="to", required=True, metavar=METAVAR + "[/port]",
                    help="the new destination; with /port ports are shifted from there"),
        RANDOM, PERSISTENT, only=Only(("nat",), (PREROUTING, OUTPUT)))
class Dnat(Nat):
    option = "to-destination"
    reroutes = True
