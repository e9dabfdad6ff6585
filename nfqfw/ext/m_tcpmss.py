"""match tcpmss: the maximum segment size that a SYN announces."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import Only, Opt, match
from nfqfw.ext.lowering import PAYLOAD, Test
from nfqfw.ext.values import TYPES, range_text
from nfqfw.protocols import TCP


@match("tcpmss", Opt("mss", "own", required=True, invert=True, metavar="value[:value]", help="size, or a range with both ends"),
       only=Only(protocols=(TCP,)))
class Tcpmss:
    def read_mss(self, draft, opt, text, env):
        low, colon, high = text.partition(":")
        if colon and low.isdigit() and high.isdigit() and int(low) > int(high):
            raise RuleError("tcpmss: invalid range given")
        draft.values["mss"] = TYPES["u16:range"].read(text, opt, "tcpmss", env)

    def save(self, use):
        return f"{' !' if 'mss' in use.inverted else ''} --mss {range_text(use.values['mss'])}"

    def show(self, use, numeric, resolver):
        return f"tcpmss match {'!' if 'mss' in use.inverted else ''}{range_text(use.values['mss'])}"

    def lower(self, use, rule):
        return [Test("tcpmss", struct.pack("<HHI", *use.values["mss"], "mss" in use.inverted), features=(PAYLOAD,))]
