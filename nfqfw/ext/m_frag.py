"""match frag: the fragment header of IPv6."""

from __future__ import annotations

import struct

from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import Test
from nfqfw.ext.spi import EVERY, drop_full, save_spi, show_range

FLAGS = (("fragres", "reserved", 1), ("fragfirst", "first", 2), ("fragmore", "more", 4), ("fraglast", "last", 8))
MORE_OR_LAST = ("fragmore", "fraglast")


@match("frag",
       Opt("fragid", "u32:range", invert=True, key="id", metavar="id[:id]", help="identification, or a range with both ends"),
       Opt("fraglen", "u32", invert=True, key="len", metavar="length", help="accepted; the kernel does not look at it"),
       Opt("fragres", help="the reserved bits are zero"),
       Opt("fragfirst", help="the first fragment"),
       Opt("fragmore", excludes=MORE_OR_LAST, help="more fragments follow"),
       Opt("fraglast", excludes=MORE_OR_LAST, help="the last one"),
       families=(10,))
class Frag:
    def final(self, draft, env):
        drop_full(draft, "id")

    def save(self, use):
        out = save_spi(use, "id", "fragid")
        if "len" in use.values:
            out += f"{' !' if 'len' in use.inverted else ''} --fraglen {use.values['len']}"
        return out + "".join(f" --{name}" for name, _, _ in FLAGS if name in use.values)

    def show(self, use, numeric, resolver):
        out = f"frag {show_range(use, 'id', 'id')}"
        if "len" in use.values:
            out += f" length:{'!' if 'len' in use.inverted else ''}{use.values['len']}"
        return out + "".join(f" {word}" for name, word, _ in FLAGS if name in use.values)

    def lower(self, use, rule):
        flags = sum(bit for name, _, bit in FLAGS if name in use.values)
        return [Test("frag6", struct.pack("<IIII", *use.values.get("id", EVERY), "id" in use.inverted, flags))]
