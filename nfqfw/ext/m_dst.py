"""matches dst and hbh: destination options and hop-by-hop options of IPv6."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext import names
from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import Test

MOST = 16                           # options of one rule: the kernel's bound
ANY_LENGTH = 0xFF


def parse_options(text: str, name: str) -> tuple:
    """`type[:length],...` -> ((type, length), ...); no length is 255."""
    out = []
    for word in text.split(","):
        if len(out) >= MOST:
            raise RuleError("too many addresses specified")
        kind_text, colon, length_text = word.partition(":")
        kind = names.unsigned(kind_text)
        if kind is None:
            raise RuleError(f"{name}: no valid digits in option type `{kind_text}'", offset=text.index(word))
        if colon and kind & 0xFF == 0:
            raise RuleError("PAD0 has not got length", offset=text.index(word))
        length = names.unsigned(length_text) if colon else ANY_LENGTH
        if length is None:
            raise RuleError(f"{name}: no valid digits in length `{length_text}'", offset=text.index(word))
        out.append((kind & 0xFF, length & 0xFF))
    return tuple(out)


def options_text(options) -> str:
    return ",".join(f"{kind}" if length == ANY_LENGTH else f"{kind}:{length}" for kind, length in options)


def opts(name: str) -> tuple[Opt, Opt]:
    return (Opt(f"{name}-len", "u32", key="len", invert=True, metavar="length", help="length of the header in bytes"),
            Opt(f"{name}-opts", "own", key="opts", metavar="TYPE[:LEN],...", help="these options in this order, at most 16"))


class OptionsHeader:
    header = 0

    def read_opts(self, draft, opt, text, env):
        draft.values["opts"] = parse_options(text, self.name)

    def save(self, use):
        out = f"{' !' if 'len' in use.inverted else ''} --{self.name}-len {use.values['len']}" if "len" in use.values else ""
        return out + (f" --{self.name}-opts {options_text(use.values['opts'])}" if "opts" in use.values else "")

    def show(self, use, numeric, resolver):
        out = self.name
        if "len" in use.values:
            out += f" length:{'!' if 'len' in use.inverted else ''}{use.values['len']}"
        return out + (f" opts {options_text(use.values['opts'])}" if "opts" in use.values else "")

    def lower(self, use, rule):
        options = use.values.get("opts", ())
        flat = bytes(byte for option in options for byte in option).ljust(2 * MOST, b"\0")
        info = struct.pack("<IBBBB32s", use.values.get("len", 0), self.header, "len" in use.values, "len" in use.inverted, len(options), flat)
        return [Test("options6", info)]


@match("dst", *opts("dst"), families=(10,))
class Dst(OptionsHeader):
    header = 60


@match("hbh", *opts("hbh"), families=(10,))
class Hbh(OptionsHeader):
    header = 0
