"""match set: a set of the kernel's ipset.  nfqfw has none yet, so every name is unknown, as to the tool without sets."""

from __future__ import annotations

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, match

COMPARISONS = ("packets-eq", "packets-lt", "packets-gt", "bytes-eq", "bytes-lt", "bytes-gt")


@match("set",
       Opt("match-set", "own", words=2, key="set", invert=True, metavar="name flags", help="name of the set, and src,dst for what is looked up"),
       Opt("return-nomatch", help="true for elements with nomatch"),
       Opt("update-counters", invert=True, help="count in the set"), Opt("update-subcounters", invert=True, help="count in member sets"),
       *(Opt(name, "u64", invert=name.endswith("eq"), metavar="value", help="compare a counter of the element") for name in COMPARISONS))
class Set:
    def read_set(self, draft, opt, text, env):
        flags = draft.more()
        if flags is None or flags.startswith(("-", "!")):
            raise RuleError("--match-set requires two args.")
        raise RuleError(f"Set {text} doesn't exist.\n")

    def final(self, draft, env):
        raise RuleError("You must specify `--match-set' with proper arguments")
