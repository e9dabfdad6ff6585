"""match esp: its security parameter index."""

from __future__ import annotations

import struct

from nfqfw.ext.api import Only, Opt, match
from nfqfw.ext.lowering import Test
from nfqfw.ext.spi import EVERY, drop_full, save_spi, show_range
from nfqfw.protocols import ESP


@match("esp", Opt("espspi", "u32:range", key="spi", invert=True, metavar="spi[:spi]", help="number, or a range with both ends"),
       only=Only(protocols=(ESP,)))
class Esp:
    def final(self, draft, env):
        drop_full(draft, "spi")

    def save(self, use):
        return save_spi(use, "spi", "espspi")

    def show(self, use, numeric, resolver):
        return f"esp {show_range(use, 'spi', 'spi')}".rstrip()

    def lower(self, use, rule):
        return [Test("esp", struct.pack("<III", *use.values.get("spi", EVERY), "spi" in use.inverted))]
