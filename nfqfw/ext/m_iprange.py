"""match iprange: source or destination between two addresses."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext import names
from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import READS_FLOW, Test, field

WORDS = (("src_range", "source", "src", 1, "saddr"), ("dst_range", "destination", "dst", 2, "daddr"))


def range_text(value) -> str:
    return "-".join(map(names.address_text, value))


@match("iprange",
       Opt("src-range", "own", invert=True, metavar="ip[-ip]", help="source between these, both included"),
       Opt("dst-range", "own", invert=True, metavar="ip[-ip]", help="destination between these, both included"))
class Iprange:
    def read_src_range(self, draft, opt, text, env):
        first_text, dash, last_text = text.partition("-")
        ends = []
        for part in (first_text, last_text) if dash else (first_text,):
            address = names.parse_address(part, env.family)
            if address is None:
                raise RuleError(f'iprange: Bad value for "--{opt.name}" option: "{part}"')
            ends.append(address)
        draft.values[opt.key] = ends[0], ends[-1]
        if ends[0] > ends[-1]:
            draft.note = f"xt_iprange: range {text} is reversed and will never match\n"

    read_dst_range = read_src_range

    def final(self, draft, env):
        if not draft.seen:
            raise RuleError("iprange match: You must specify `--src-range' or `--dst-range'")

    def save(self, use):
        return "".join(f"{' !' if key in use.inverted else ''} --{key.replace('_', '-')} {range_text(use.values[key])}"
                       for key, *_ in WORDS if key in use.values)

    def show(self, use, numeric, resolver):
        return " ".join(f"{word} IP range {'! ' if key in use.inverted else ''}{range_text(use.values[key])}"
                        for key, word, *_ in WORDS if key in use.values)

    def lower(self, use, rule):
        asked = sum(bit for key, _, _, bit, _ in WORDS if key in use.values)
        invert = sum(bit for key, _, _, bit, _ in WORDS if key in use.inverted)
        info, fields = b"", ()
        for key, _, _, _, name in WORDS:
            first, last = use.values.get(key, (b"", b""))
            info += struct.pack("<16s16s", first, last)
            if key in use.values:
                ends = ((int.from_bytes(first, "big"), int.from_bytes(last, "big")),)
                fields += (field(name, ends, key in use.inverted, (1 << len(first) * 8) - 1),)
        return [Test("iprange", info + struct.pack("<II", asked, invert), fields, reads=READS_FLOW)]
