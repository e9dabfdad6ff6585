"""targets SECMARK and CONNSECMARK: security labels.

A label (see labels.py) is on our packets and connections.  It stays inside nfqfw: NFQUEUE cannot carry it to the kernel.
"""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import Only, Opt, target
from nfqfw.ext.labels import label_of
from nfqfw.ext.lowering import Action

ONLY = Only(("mangle", "security"))
CONTEXT_BYTES = 255                     # SECMARK_SECCTX_MAX of the kernel, less NUL


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
