"""match tcp."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext import names
from nfqfw.ext.api import Only, Opt, match
from nfqfw.ext.lowering import READS_FLOW, READS_PACKET, READS_TCP_FLAGS, FieldSet, Test, complement, merge
from nfqfw.ext.ports import EVERY, drop_full_ranges, port_fields, port_opts, save_ports, show_ports
from nfqfw.protocols import TCP, TCP_FLAGS

FLAG_BITS = {**dict(TCP_FLAGS), "ALL": 0x3F, "NONE": 0}
SYN_ALONE = (0x17, 0x02)            # FIN, SYN, RST, ACK looked at; SYN set
INVERT_BITS = {"sport": 1, "dport": 2, "flags": 4, "tcp_option": 8}
INFO = struct.Struct("<4H4B")
BOTH = "Only one of `--syn' or `--tcp-flags'  allowed"


def flags_text(bits: int) -> str:
    return ",".join(name for name, bit in TCP_FLAGS if bits & bit) or "NONE"


def parse_flags(text: str) -> int:
    bits = 0
    for word in text.split(","):
        if not word:
            continue
        if word.upper() not in FLAG_BITS:
            raise RuleError(f"Unknown TCP flag `{word}'", offset=text.index(word))
        bits |= FLAG_BITS[word.upper()]
    return bits


@match("tcp", *port_opts(once=True),
       Opt("syn", invert=True, key="flags", once=BOTH, help="only SYN of FIN, SYN, RST and ACK is set"),
       Opt("tcp-flags", "own", words=2, invert=True, key="flags", once=BOTH, metavar="mask comp",
           help="of the flags in mask exactly those in comp are set\n(FIN SYN RST PSH ACK URG ALL NONE)"),
       Opt("tcp-option", "own", invert=True, metavar="number", once="Only one `--tcp-option' allowed",
           help="an option of this kind is present"),
       only=Only(protocols=(TCP,)))
class Tcp:
    def read_flags(self, draft, opt, text, env):
        if "flags" in draft.values:
            raise RuleError(BOTH)
        if opt.name == "syn":
            draft.values["flags"] = SYN_ALONE
            return
        compared = draft.more()
        if compared is None or compared.startswith("!"):
            raise RuleError("--tcp-flags requires two args.")
        draft.values["flags"] = parse_flags(text), parse_flags(compared)

    def read_tcp_option(self, draft, opt, text, env):
        kind = names.unsigned(text, 1, 255)
        if kind is None:
            raise RuleError(f'Bad TCP option "{text}"')
        draft.values["tcp_option"] = kind

    def final(self, draft, env):
        drop_full_ranges(draft)
        if draft.values.get("flags") == (0, 0) and "flags" not in draft.inverted:
            del draft.values["flags"]

    def save(self, use):
        out = save_ports(use)
        if "tcp_option" in use.values:
            out += f"{' !' if 'tcp_option' in use.inverted else ''} --tcp-option {use.values['tcp_option']}"
        if "flags" in use.values:
            mask, flags = use.values["flags"]
            out += f"{' !' if 'flags' in use.inverted else ''} --tcp-flags {flags_text(mask)} {flags_text(flags)}"
        return out

    def show(self, use, numeric, resolver):
        out = ["tcp", *show_ports(use, TCP, numeric, resolver)]
        if "tcp_option" in use.values:
            out.append(f"option={'!' if 'tcp_option' in use.inverted else ''}{use.values['tcp_option']}")
        if "flags" in use.values:
            mask, flags = use.values["flags"]
            sign = "!" if "flags" in use.inverted else ""
            out.append(f"flags:{sign}0x{mask:02X}/0x{flags:02X}" if numeric else
                       f"flags:{sign}{flags_text(mask)}/{flags_text(flags)}")
        return " ".join(out)

    def lower(self, use, rule):
        mask, flags = use.values.get("flags", (0, 0))
        option = use.values.get("tcp_option", 0)
        invert = sum([INVERT_BITS[key] for key in use.inverted])
        info = INFO.pack(*use.values.get("sport", EVERY), *use.values.get("dport", EVERY), option, mask, flags, invert)
        fields = port_fields(use)
        if mask or "flags" in use.values:
            values = merge((byte, byte) for byte in range(256) if byte & mask == flags)
            fields += (FieldSet("tcp_flags", complement(values, 0, 255) if "flags" in use.inverted else values),)
        reads = READS_PACKET if option else READS_TCP_FLAGS if "flags" in use.values else READS_FLOW
        return [Test("tcp", info, fields, reads=reads)]
