"""match statistic: some packets, by chance or by count."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import Extension, Opt, match
from nfqfw.ext.lowering import Test

ONE = 0x80000000                    # probability 1 in the kernel's 31 bits
MODES = ("random", "nth")


@match("statistic",
       Opt("mode", "own", required=True, metavar="random|nth", help="by chance, or one in n"),
       Opt("probability", "double", invert=True, high=1, metavar="p", help="random: 0 to 1"),
       Opt("every", "u32", invert=True, low=1, needs=("packet",), metavar="n", help="nth: one in n"),
       Opt("packet", "u32", needs=("every",), metavar="p", help="nth: which of the n, counted from 0"))
class Statistic:
    def read_mode(self, draft, opt, text, env):
        if text not in MODES:
            raise RuleError(f'Bad mode "{text}"')
        draft.values["mode"] = text

    def read_probability(self, draft, opt, text, env):
        draft.values["probability"] = round(opt.reader(text, opt, "statistic", env) * ONE)

    def check_relations(self, seen):
        """What a mode wants comes first, then the options' own relations."""

    def finish(self, draft, env):
        values = draft.values
        mode = values.get("mode", "random")
        if mode == "random" and "probability" not in values:
            raise RuleError("--probability must be specified when using random mode")
        if mode == "nth" and "every" not in values and "packet" not in values:
            raise RuleError("--every and --packet must be specified when using nth mode")
        Extension.check_relations(self, draft.seen)
        if mode == "nth" and values["packet"] >= values["every"]:
            raise RuleError("the --packet p must be 0 <= p <= n-1")
        return Extension.finish(self, draft, env)

    def words(self, use):
        values = use.values
        if values["mode"] == "random":
            return "probability", f"{values['probability'] / ONE:.11f}", "probability" in use.inverted
        return "every", str(values["every"]), "every" in use.inverted

    def save(self, use):
        name, text, inverted = self.words(use)
        tail = f" --packet {use.values['packet']}" if use.values["mode"] == "nth" else ""
        return f" --mode {use.values['mode']}{' !' if inverted else ''} --{name} {text}{tail}"

    def show(self, use, numeric, resolver):
        name, text, inverted = self.words(use)
        packet = use.values.get("packet", 0)
        return f"statistic mode {use.values['mode']}{' !' if inverted else ''} {name} {text}" + (f" packet {packet}" if packet else "")

    def lower(self, use, rule):
        values = use.values
        inverted = self.words(use)[2]
        if values["mode"] == "random":
            return [Test("statistic", struct.pack("<IIII", 0, values["probability"], 0, inverted), state=bytes(8))]
        every = values["every"] - 1
        return [Test("statistic", struct.pack("<IIII", 1, 0, every, inverted), state=struct.pack("<Q", every - values["packet"]))]
