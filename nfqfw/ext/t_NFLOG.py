"""target NFLOG: a copy of the packet for a netlink group, into which only the kernel can write."""

from __future__ import annotations

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, target
from nfqfw.ext.lowering import Unevaluated
from nfqfw.ext.names import cut, quote

PREFIX_BYTES = 63
SIZES = ("nflog-range", "nflog-size")


@target("NFLOG",
        Opt("nflog-group", "u16", key="group", metavar="NUM", help="netlink group; 0"),
        Opt("nflog-prefix", "own", key="prefix", metavar="STRING", help="text that goes with it, up to 63 bytes"),
        Opt("nflog-range", "u32", key="range", excludes=SIZES, metavar="NUM", help="has no effect; use --nflog-size"),
        Opt("nflog-size", "u32", key="size", excludes=SIZES, metavar="NUM", help="bytes of the packet"),
        Opt("nflog-threshold", "u16", key="threshold", metavar="NUM", help="packets that wait for one message; 1"))
class Nflog:
    def read_prefix(self, draft, opt, text, env):
        if "\n" in text:
            raise RuleError("Newlines not allowed in --nflog-prefix", offset=text.index("\n"))
        if not text:
            raise RuleError("Argument must have a minimum length of 1 characters\n")
        draft.values["prefix"] = cut(text, PREFIX_BYTES)

    def read_range(self, draft, opt, text, env):
        draft.values["range"] = opt.reader(text, opt, "NFLOG", env)
        draft.note = "warn: --nflog-range has never worked and is no longer supported, please use --nflog-size instead\n"

    def final(self, draft, env):
        for key in ("group", "threshold"):
            if draft.values.get(key) == 0:
                del draft.values[key]

    def parts(self, use, dash: str) -> str:
        values = use.values
        out = f" {dash}nflog-prefix {quote(values['prefix'])}" if "prefix" in values else ""
        if "group" in values:
            out += f" {dash}nflog-group {values['group']}"
        if "size" in values:
            out += f" {dash}nflog-size {values['size']}"
        elif values.get("range"):
            out += f" {dash}nflog-range {values['range']}"
        return out + (f" {dash}nflog-threshold {values['threshold']}" if "threshold" in values else "")

    def save(self, use):
        return self.parts(use, "--")

    def show(self, use, numeric, resolver):
        return self.parts(use, "").lstrip()

    def lower(self, use, rule):
        return Unevaluated("not possible: only the kernel can write into nflog groups")
