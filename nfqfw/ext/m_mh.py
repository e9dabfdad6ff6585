"""match mh: the type of a mobility header."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext import names
from nfqfw.ext.api import Only, Opt, match
from nfqfw.ext.lowering import Test
from nfqfw.ext.spi import save_spi
from nfqfw.protocols import MH

# RFC 6275; name, short name, number
TYPES = (("binding-refresh-request", "brr", 0), ("home-test-init", "hoti", 1), ("careof-test-init", "coti", 2), ("home-test", "hot", 3),
         ("careof-test", "cot", 4), ("binding-update", "bu", 5), ("binding-acknowledgement", "ba", 6), ("binding-error", "be", 7))
EVERY = (0, 255)


def parse_type(text: str) -> int:
    """By name, abbreviated as one likes (an exact name wins, then the first that fits), or number."""
    lowered = text.lower()
    for name, short, number in TYPES:
        if lowered and lowered in (name, short):
            return number
    for name, short, number in TYPES:
        if lowered and (name.startswith(lowered) or short.startswith(lowered)):
            return number
    number = names.unsigned(text, 0, 255)
    if number is None:
        raise RuleError(f"Invalid MH type `{text}'")
    return number


def type_name(number: int, numeric: bool) -> str:
    return str(number) if numeric or number >= len(TYPES) else TYPES[number][0]


@match("mh", Opt("mh-type", "own", key="type", invert=True, metavar="type[:type]", help="type, or a range with both ends"),
       families=(10,), only=Only(protocols=(MH,)))
class Mh:
    def read_type(self, draft, opt, text, env):
        low, colon, high = text.partition(":")
        first = parse_type(low) if low or not colon else 0
        last = first if not colon else parse_type(high) if high else 255
        if first > last:
            raise RuleError("Invalid MH type range (min > max)")
        draft.values["type"] = first, last

    def final(self, draft, env):
        if draft.values.get("type") == EVERY and not draft.inverted:
            del draft.values["type"]

    def save(self, use):
        return save_spi(use, "type", "mh-type")

    def show(self, use, numeric, resolver):
        if "type" not in use.values:
            return "mh"
        low, high = use.values["type"]
        text = type_name(low, numeric) if low == high else f"{type_name(low, numeric)}:{type_name(high, numeric)}"
        return f"mh {'!' if 'type' in use.inverted else ''}{text}"

    def lower(self, use, rule):
        return [Test("mh6", struct.pack("<BBBB", *use.values.get("type", EVERY), "type" in use.inverted, 0))]

    def help_more(self):
        return ["Valid MH types:", *(f"{name} ({short})" for name, short, _ in TYPES)]
