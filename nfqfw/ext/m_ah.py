"""match ah: its security parameter index; for IPv6, where it is an extension header, also its length."""

from __future__ import annotations

import struct

from nfqfw.ext.api import Only, Opt, match
from nfqfw.ext.lowering import Test
from nfqfw.ext.spi import EVERY, drop_full, save_spi, show_range
from nfqfw.protocols import AH

SPI = Opt("ahspi", "u32:range", key="spi", invert=True, metavar="spi[:spi]", help="number, or a range with both ends")


@match("ah", SPI, families=(2,), only=Only(protocols=(AH,)))
class Ah4:
    def final(self, draft, env):
        drop_full(draft, "spi")

    def save(self, use):
        return save_spi(use, "spi", "ahspi")

    def show(self, use, numeric, resolver):
        return f"ah {show_range(use, 'spi', 'spi')}"

    def lower(self, use, rule):
        return [Test("ah", struct.pack("<III", *use.values.get("spi", EVERY), "spi" in use.inverted))]


@match("ah", SPI, Opt("ahlen", "u32", invert=True, key="len", metavar="length", help="length of the header in bytes"),
       Opt("ahres", help="its reserved field is zero"), families=(10,))
class Ah6:
    def final(self, draft, env):
        drop_full(draft, "spi")

    def save(self, use):
        out = save_spi(use, "spi", "ahspi")
        if "len" in use.values:
            out += f"{' !' if 'len' in use.inverted else ''} --ahlen {use.values['len']}"
        return out + (" --ahres" if "ahres" in use.values else "")

    def show(self, use, numeric, resolver):
        out = f"ah {show_range(use, 'spi', 'spi')}"
        if "len" in use.values:
            out += f"length:{'!' if 'len' in use.inverted else ''}{use.values['len']}"
        return out + (" reserved" if "ahres" in use.values else "")

    def lower(self, use, rule):
        values = use.values
        invert = ("spi" in use.inverted) | ("len" in use.inverted) << 1
        return [Test("ah6", struct.pack("<IIIBBH", *values.get("spi", EVERY), values.get("len", 0), invert, "ahres" in values, 0))]
