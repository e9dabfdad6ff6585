"""match helper: the helper of the connection whose expectation this one fulfilled."""

from __future__ import annotations

import struct

from nfqfw.ext import helpers
from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import TRACKED, Test
from nfqfw.ext.names import cut

NAME_BYTES = 29


@match("helper", Opt("helper", "own", required=True, invert=True, metavar="name", help="name of the helper; empty: any"))
class Helper:
    def read_helper(self, draft, opt, text, env):
        draft.values["helper"] = cut(text, NAME_BYTES)

    def save(self, use):
        from nfqfw.ext.names import quote
        return f"{' !' if 'helper' in use.inverted else ''} --helper {quote(use.values['helper'])}"

    def show(self, use, numeric, resolver):
        return f"helper match {'! ' if 'helper' in use.inverted else ''}\"{use.values['helper']}\""

    def lower(self, use, rule):
        return [Test("helper", struct.pack("<II", helpers.bits_asked(use.values["helper"]), "helper" in use.inverted), features=TRACKED)]
