"""target SET: puts addresses into a set of the kernel's ipset, or takes them out."""

from __future__ import annotations

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, target
from nfqfw.ext.lowering import Unevaluated
from nfqfw.ext.setflags import read_name_and_flags, set_text

ACTIONS = ("add-set", "del-set", "map-set")
FLAGS = ("exist", "timeout", "map-mark", "map-prio", "map-queue")


@target("SET", *(Opt(name, "own", words=2, metavar="name flags", help=text) for name, text in zip(ACTIONS, (
            "add what flags say (src,dst) to the set", "take it out", "take mark, priority and queue from the element"))),
        Opt("exist", help="renew an entry that is there"), Opt("timeout", "u32", metavar="n", help="seconds it stays"),
        Opt("map-mark", help="map the mark"), Opt("map-prio", help="map the priority"), Opt("map-queue", help="map the queue"))
class Set:
    def read_add_set(self, draft, opt, text, env):
        draft.values[opt.key] = read_name_and_flags(draft, opt, text, env)

    read_del_set = read_map_set = read_add_set

    def final(self, draft, env):
        if not any(name.replace("-", "_") in draft.values for name in ACTIONS):
            raise RuleError("You must specify either `--add-set' or `--del-set' or `--map-set'")

    def words(self, use, dash: str) -> str:
        out = ""
        for name in ACTIONS:
            key = name.replace("-", "_")
            if key in use.values:
                out += f" {dash}{name} {set_text(use.values[key])}"
        for name in FLAGS:
            key = name.replace("-", "_")
            if key in use.values:
                out += f" {dash}{name}" + ("" if use.values[key] is True else f" {use.values[key]}")
        return out

    def save(self, use):
        return self.words(use, "--")

    def show(self, use, numeric, resolver):
        return self.words(use, "").lstrip()

    def lower(self, use, rule):
        return Unevaluated("not evaluated yet: SET: needs the sets of ipset")
