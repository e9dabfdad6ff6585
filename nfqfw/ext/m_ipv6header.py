"""match ipv6header: which extension headers a packet has."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import Test

# bit, printed name, short name, number
HEADERS = ((0x80, "hop-by-hop", "hop", 0), (0x40, "ipv6-opts", "dst", 60), (0x20, "ipv6-route", "route", 43), (0x10, "ipv6-frag", "frag", 44),
           (0x08, "ah", "auth", 51), (0x04, "esp", "esp", 50), (0x02, "ipv6-nonxt", "none", 59), (0x01, "protocol", "prot", -1))


def headers_text(bits: int) -> str:
    return ",".join(name for bit, name, _, _ in HEADERS if bits & bit)


@match("ipv6header",
       Opt("header", "own", required=True, invert=True, metavar="headers", help="exactly these, by name or number:\n"
           + " ".join(f"{short}={name}" for _, name, short, _ in HEADERS)),
       Opt("soft", help="at least these"), families=(10,))
class Ipv6header:
    def read_header(self, draft, opt, text, env):
        bits = 0
        for word in text.split(","):
            bit = next((bit for bit, name, short, number in HEADERS if word in (name, short) or word == str(number) and number >= 0), 0)
            if not bit:
                raise RuleError(f"unknown header `{word}' specified", offset=text.index(word))
            bits |= bit
        draft.values["header"] = bits

    def save(self, use):
        out = f"{' !' if 'header' in use.inverted else ''} --header {headers_text(use.values['header'])}"
        return out + (" --soft" if "soft" in use.values else "")

    def show(self, use, numeric, resolver):
        bits = use.values["header"]
        text = f"0x{bits:02X}" if numeric else headers_text(bits)
        return f"ipv6header flags:{'!' if 'header' in use.inverted else ''}{text}" + (" soft" if "soft" in use.values else "")

    def lower(self, use, rule):
        return [Test("headers6", struct.pack("<BBBB", use.values["header"], "soft" in use.values, "header" in use.inverted, 0))]
