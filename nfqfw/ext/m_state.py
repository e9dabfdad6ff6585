"""match state: the short form of conntrack --ctstate."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, match
from nfqfw.ext.ctstates import STATES, names_text, parse_names, state_field
from nfqfw.ext.lowering import READS_FLOW, TRACKED, Test

CLASS_STATES = STATES[:5]           # no SNAT, no DNAT


@match("state", Opt("state", "own", required=True, invert=True, metavar="state[,state...]",
                    help="INVALID ESTABLISHED NEW RELATED UNTRACKED"))
class State:
    def read_state(self, draft, opt, text, env):
        bits = parse_names(text, CLASS_STATES)
        if bits is None:
            bad = next(word for word in text.split(",") if parse_names(word, CLASS_STATES) is None)
            raise RuleError(f'Bad state "{bad}"', offset=text.index(bad))
        draft.values["state"] = bits

    def save(self, use):
        return f"{' !' if 'state' in use.inverted else ''} --state {names_text(use.values['state'], STATES)}"

    def show(self, use, numeric, resolver):
        return f"{'! ' if 'state' in use.inverted else ''}state {names_text(use.values['state'], STATES)}"

    def lower(self, use, rule):
        bits, inverted = use.values["state"], "state" in use.inverted
        every = sum(bit for _, bit in CLASS_STATES)
        info = struct.pack("<I", every & ~bits if inverted else bits)
        return [Test("state", info, state_field(bits, inverted), reads=READS_FLOW, features=TRACKED)]
