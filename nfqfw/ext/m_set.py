"""match set: a set of the kernel's ipset."""

from __future__ import annotations

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import Unevaluated
from nfqfw.ext.setflags import read_name_and_flags, set_text

COMPARISONS = ("packets-eq", "packets-lt", "packets-gt", "bytes-eq", "bytes-lt", "bytes-gt")
FLAGS = ("return-nomatch", "update-counters", "update-subcounters")


@match("set",
       Opt("match-set", "own", words=2, key="set", invert=True, metavar="name flags", help="name of the set, and src,dst for what is looked up"),
       Opt("return-nomatch", help="true for elements with nomatch"),
       Opt("update-counters", invert=True, help="count in the set"), Opt("update-subcounters", invert=True, help="count in member sets"),
       *(Opt(name, "u64", invert=name.endswith("eq"), metavar="value", help="compare a counter of the element") for name in COMPARISONS))
class Set:
    def read_set(self, draft, opt, text, env):
        draft.values["set"] = read_name_and_flags(draft, opt, text, env)

    def final(self, draft, env):
        if "set" not in draft.values:
            raise RuleError("You must specify `--match-set' with proper arguments")

    def words(self, use, dash: str) -> str:
        out = f"{' !' if 'set' in use.inverted else ''} {dash}match-set {set_text(use.values['set'])}"
        for name in FLAGS + COMPARISONS:
            key = name.replace("-", "_")
            if key in use.values:
                value = "" if use.values[key] is True else f" {use.values[key]}"
                out += f"{' !' if key in use.inverted else ''} {dash}{name}{value}"
        return out

    def save(self, use):
        return self.words(use, "--")

    def show(self, use, numeric, resolver):
        return self.words(use, "").lstrip()

    def lower(self, use, rule):
        return Unevaluated("not evaluated yet: set: needs the sets of ipset")
