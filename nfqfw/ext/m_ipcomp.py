"""match ipcomp: its compression parameter index."""

from __future__ import annotations

import struct

from nfqfw.ext.api import Only, Opt, match
from nfqfw.ext.lowering import Test
from nfqfw.ext.spi import drop_full, save_spi, show_range
from nfqfw.protocols import IPCOMP


@match("ipcomp",
       Opt("ipcompspi", "u32:range", key="spi", invert=True, metavar="spi[:spi]", help="number, or a range with both ends"),
       Opt("compres", help="accepted; the kernel does not look at it"),
       only=Only(protocols=(IPCOMP,)))
class Ipcomp:
    def final(self, draft, env):
        draft.values.setdefault("spi", (0, 0))
        drop_full(draft, "spi")

    def save(self, use):
        return save_spi(use, "spi", "ipcompspi") + (" --compres" if "compres" in use.values else "")

    def show(self, use, numeric, resolver):
        return " ".join(word for word in ("comp", show_range(use, "spi", "spi"), "reserved" if "compres" in use.values else "") if word)

    def lower(self, use, rule):
        return [Test("ipcomp", struct.pack("<III", *use.values.get("spi", (0, 0xFFFFFFFF)), "spi" in use.inverted))]
