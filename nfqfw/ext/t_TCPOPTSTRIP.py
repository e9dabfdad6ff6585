"""target TCPOPTSTRIP: overwrites TCP options with no-operations."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import Only, Opt, target
from nfqfw.ext.lowering import Action
from nfqfw.ext.names import unsigned
from nfqfw.protocols import TCP

NAMES = {"wscale": 3, "mss": 2, "sack-permitted": 4, "sack": 5, "timestamp": 8, "md5": 19}
NAME_OF = {number: name for name, number in NAMES.items()}


@target("TCPOPTSTRIP", Opt("strip-options", "own", key="options", metavar="option[,option...]",
                           help="numbers, or " + " ".join(NAMES)), only=Only(("mangle",), (), (TCP,)))
class Tcpoptstrip:
    def read_options(self, draft, opt, text, env):
        found = set()
        for word in text.split(","):
            number = NAMES.get(word)
            if number is None:
                number = unsigned(word, 0, 255)
            if number is None:
                raise RuleError(f'Bad TCP option value "{word}"')
            if number < 2:
                raise RuleError("Option value may not be 0 or 1")
            found.add(number)
        draft.values["options"] = tuple(sorted(found))

    def save(self, use):
        options = use.values.get("options")
        return f" --strip-options {','.join(map(str, options))}" if options else ""

    def show(self, use, numeric, resolver):
        options = use.values.get("options")
        if not options:
            return ""
        return "TCPOPTSTRIP options " + ",".join(str(n) if numeric else NAME_OF.get(n, str(n)) for n in options)

    def lower(self, use, rule):
        words = [0] * 8
        for number in use.values.get("options", ()):
            words[number >> 5] |= 1 << (number & 31)
        return Action("tcpoptstrip", struct.pack("<8I", *words), ("rewrites",))
