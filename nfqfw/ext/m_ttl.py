"""matches ttl and hl: the hop count."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import Test

EQ, NE, LT, GT = range(4)               # IPT_TTL_* of the kernel
SIGNS = ("==", "!=", "<", ">")


def options(prefix: str) -> tuple[Opt, ...]:
    every = tuple(f"{prefix}-{word}" for word in ("eq", "lt", "gt"))
    return (Opt(every[0], "u8", key="test", aliases=(prefix,), invert=True, excludes=every, metavar="number", help="the value, or another one"),
            Opt(every[1], "u8", key="test", excludes=every, metavar="number", help="less than this"),
            Opt(every[2], "u8", key="test", excludes=every, metavar="number", help="more than this"))


class HopCount:
    prefix = ""
    title = ""
    missing = ""

    def read_test(self, draft, opt, text, env):
        value = opt.reader(text, opt, self.prefix, env)
        draft.values["test"] = {"eq": EQ, "lt": LT, "gt": GT}[opt.name[-2:]], value

    def final(self, draft, env):
        if "test" not in draft.values:
            raise RuleError(self.missing)
        if draft.inverted:
            draft.values["test"] = NE, draft.values["test"][1]
            draft.inverted.clear()

    def save(self, use):
        mode, value = use.values["test"]
        return f"{' !' if mode == NE else ''} --{self.prefix}-{('eq', 'eq', 'lt', 'gt')[mode]} {value}"

    def show(self, use, numeric, resolver):
        mode, value = use.values["test"]
        return f"{self.title} match {self.title} {SIGNS[mode]} {value}"

    def lower(self, use, rule):
        return [Test("ttl", struct.pack("<BB2x", *use.values["test"]))]


@match("ttl", *options("ttl"), families=(2,))
class Ttl(HopCount):
    prefix, title = "ttl", "TTL"
    missing = "TTL match: You must specify one of `--ttl-eq', `--ttl-lt', `--ttl-gt"


@match("hl", *options("hl"), families=(10,))
class Hl(HopCount):
    prefix, title = "hl", "HL"
    missing = "HL match: You must specify one of `--hl-eq', `--hl-lt', `--hl-gt'"
