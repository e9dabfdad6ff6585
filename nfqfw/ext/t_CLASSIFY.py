"""target CLASSIFY: the packet's priority, which names a class of the queueing discipline."""

from __future__ import annotations

import re
import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import FORWARD, OUTPUT, POSTROUTING, Only, Opt, target
from nfqfw.ext.lowering import Action

HEX = r"[ \t]*(?:0[xX])?([0-9a-fA-F]+)"
CLASS = re.compile(f"{HEX}:{HEX}")


@target("CLASSIFY", Opt("set-class", "own", key="priority", required=True, metavar="major:minor", help="both in hex"),
        only=Only((), (FORWARD, OUTPUT, POSTROUTING)))
class Classify:
    def read_priority(self, draft, opt, text, env):
        found = CLASS.match(text)
        if found is None:
            raise RuleError(f'Bad class value "{text}"')
        major, minor = (int(number, 16) for number in found.groups())
        draft.values["priority"] = (major & 0xFFFF) << 16 | minor & 0xFFFF

    def save(self, use):
        priority = use.values["priority"]
        return f" --set-class {priority >> 16:04x}:{priority & 0xFFFF:04x}"

    def show(self, use, numeric, resolver):
        priority = use.values["priority"]
        return f"CLASSIFY set {priority >> 16:x}:{priority & 0xFFFF:x}"

    def lower(self, use, rule):
        return Action("classify", struct.pack("<I", use.values["priority"]))
