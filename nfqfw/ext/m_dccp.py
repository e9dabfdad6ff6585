"""match dccp: ports, packet types, one option."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import Only, Opt, match
from nfqfw.ext.lowering import Test
from nfqfw.ext.ports import EVERY, port_fields, port_opts, save_ports, shown_ports
from nfqfw.protocols import DCCP

TYPES = ("REQUEST", "RESPONSE", "DATA", "ACK", "DATAACK", "CLOSEREQ", "CLOSE", "RESET", "SYNC", "SYNCACK", "INVALID")
INVALID = 0xFC00                    # types 10 to 15


@match("dccp", *port_opts(once=False),
       Opt("dccp-types", "own", invert=True, key="types", metavar="type[,...]", help="packet is one of these:\n" + " ".join(TYPES)),
       Opt("dccp-option", "u8", invert=True, key="option", low=1, metavar="option", help="option of this number is there"),
       only=Only(protocols=(DCCP,)))
class Dccp:
    def read_types(self, draft, opt, text, env):
        bits = 0
        for word in text.split(","):
            if word.upper() not in TYPES:
                raise RuleError(f"Unknown DCCP type `{word}'", offset=text.index(word))
            bits |= INVALID if word.upper() == "INVALID" else 1 << TYPES.index(word.upper())
        draft.values["types"] = bits

    def types_text(self, bits: int) -> str:
        return ",".join(name for i, name in enumerate(TYPES) if bits >> i & 1)

    def save(self, use):
        out = save_ports(use)
        if "types" in use.values:
            out += f"{' !' if 'types' in use.inverted else ''} --dccp-types {self.types_text(use.values['types'])}"
        if "option" in use.values:
            out += f"{' !' if 'option' in use.inverted else ''} --dccp-option {use.values['option']}"
        return out

    def show(self, use, numeric, resolver):
        out = ["dccp", *shown_ports(use, DCCP, numeric, resolver)]
        if "types" in use.values:
            bits = use.values["types"]
            out += ["!"] if "types" in use.inverted else []
            out.append(",".join(str(i) for i in range(16) if bits >> i & 1) if numeric else self.types_text(bits))
        if "option" in use.values:
            out.append(f"option={'!' if 'option' in use.inverted else ''}{use.values['option']}")
        return " ".join(out)

    def lower(self, use, rule):
        values = use.values
        invert = sum(bit for key, bit in (("sport", 1), ("dport", 2), ("types", 4), ("option", 8)) if key in use.inverted)
        asked = ("types" in values) * 4 | ("option" in values) * 8
        info = struct.pack("<4HHBBBBH", *values.get("sport", EVERY), *values.get("dport", EVERY), values.get("types", 0),
                           values.get("option", 0), invert, asked, 0, 0)
        return [Test("dccp", info, port_fields(use))]
