"""target SET: puts addresses into a set of the kernel's ipset.  nfqfw has no sets yet: every name is unknown."""

from __future__ import annotations

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, target

ACTIONS = ("add-set", "del-set", "map-set")


@target("SET", *(Opt(name, "own", words=2, key="set", metavar="name flags", help=text) for name, text in zip(ACTIONS, (
            "add what flags say (src,dst) to the set", "take it out", "take mark, priority and queue from the element"))),
        Opt("exist", help="renew an entry that is there"), Opt("timeout", "u32", metavar="n", help="seconds it stays"),
        Opt("map-mark", help="map the mark"), Opt("map-prio", help="map the priority"), Opt("map-queue", help="map the queue"))
class Set:
    def read_set(self, draft, opt, text, env):
        flags = draft.more()
        if flags is None or flags.startswith(("-", "!")):
            raise RuleError(f"--{opt.name} requires two args.")
        raise RuleError(f"Set {text} doesn't exist.\n")

    def final(self, draft, env):
        raise RuleError("You must specify either `--add-set' or `--del-set' or `--map-set'")
