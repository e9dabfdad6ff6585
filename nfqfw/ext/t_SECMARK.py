"""targets SECMARK and CONNSECMARK: security labels.

A label is a number on packets and connections; it is derived from the context's text, so that it means the same after a
reload and to another process.  It stays inside nfqfw: the kernel is not told (NFQUEUE cannot carry it).
"""

from __future__ import annotations

import struct
import zlib

from nfqfw.errors import RuleError
from nfqfw.ext.api import Only, Opt, target
from nfqfw.ext.lowering import Action

ONLY = Only(("mangle", "security"))
CONTEXT_BYTES = 255                     # SECMARK_SECCTX_MAX of the kernel, less NUL
CONTEXTS: dict[int, str] = {}           # label -> context, for listings; registered when a rule is compiled


def label_of(context: str) -> int:
    """The number of a context; never 0."""
    raw = context.encode(errors="surrogateescape")
    label = zlib.crc32(raw) or 1
    while CONTEXTS.setdefault(label, context) != context:       # two contexts with one CRC: the later one takes the next number
        label = label % 0xFFFFFFFF + 1
    return label


@target("SECMARK", Opt("selctx", "string", high=CONTEXT_BYTES, required=True, metavar="context", help="the label"), only=ONLY)
class Secmark:
    def save(self, use):
        return f" --selctx {use.values['selctx']}"

    def show(self, use, numeric, resolver):
        return f"SECMARK selctx {use.values['selctx']}"

    def lower(self, use, rule):
        return Action("secmark", struct.pack("<I", label_of(use.values["selctx"])))


@target("CONNSECMARK",
        Opt("save", excludes=("restore",), help="packet's label to the connection, if that has none"),
        Opt("restore", excludes=("save",), help="connection's label to the packet, if that has none"),
        only=ONLY)
class Connsecmark:
    def final(self, draft, env):
        if not draft.values:
            raise RuleError("CONNSECMARK target: parameter required")

    def show(self, use, numeric, resolver):
        return "CONNSECMARK " + ("restore" if "restore" in use.values else "save")

    def lower(self, use, rule):
        return Action("connsecmark", struct.pack("<B3x", "restore" in use.values), ("conntrack", "defrag"))
