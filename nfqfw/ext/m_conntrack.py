"""match conntrack: everything a connection knows about itself."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext import names
from nfqfw.ext.api import Opt, match
from nfqfw.ext.ctstates import STATES, names_text, parse_names, state_field
from nfqfw.ext.lowering import READS_FLOW, READS_PACKET, TRACKED, Test

STATUSES = (("NONE", 0), ("EXPECTED", 1), ("SEEN_REPLY", 2), ("ASSURED", 4), ("CONFIRMED", 8))
DIRECTIONS = ("ORIGINAL", "REPLY")
ADDRESSES = ("ctorigsrc", "ctorigdst", "ctreplsrc", "ctrepldst")
PORTS = tuple(name + "port" for name in ADDRESSES)
ASK = {"ctstate": 1, "ctproto": 2, "ctorigsrc": 4, "ctorigdst": 8, "ctreplsrc": 16, "ctrepldst": 32, "ctstatus": 64,
       "ctexpire": 128, "ctorigsrcport": 256, "ctorigdstport": 512, "ctreplsrcport": 1024, "ctrepldstport": 2048, "ctdir": 4096}
# order in which save and -L print them
PRINTED = ("ctstate", "ctproto", "ctorigsrc", "ctorigdst", "ctreplsrc", "ctrepldst", "ctorigsrcport", "ctorigdstport",
           "ctreplsrcport", "ctrepldstport", "ctstatus", "ctexpire", "ctdir")


def read_port(text: str, opt, env) -> tuple[int, int]:
    """`port[:port]` by number or service of any protocol; an open end is the limit."""
    low_text, colon, high_text = text.partition(":")
    ends = []
    for part, empty in ((low_text, 0), (high_text, 65535)):
        port = empty if part == "" and colon else names.unsigned(part, 0, 65535)
        if port is None:
            port = env.resolver.port(part, None)
        if port is None:
            raise RuleError(f'Port "{part}" does not resolve to anything.\n')
        ends.append(port)
        if not colon:
            return port, port
    if ends[0] > ends[1]:
        raise RuleError("invalid portrange (min > max)")
    return ends[0], ends[1]


@match("conntrack",
       Opt("ctstate", "own", invert=True, metavar="state[,state...]", help="INVALID ESTABLISHED NEW RELATED UNTRACKED SNAT DNAT"),
       Opt("ctproto", "protocol", invert=True, metavar="proto", help="protocol of the connection, by number or name"),
       *(Opt(name, "hostmask", invert=True, metavar="address[/mask]", help="address of the original or reply tuple")
         for name in ADDRESSES),
       *(Opt(name, "own", invert=True, metavar="port[:port]", help="port of the original or reply tuple") for name in PORTS),
       Opt("ctstatus", "own", invert=True, metavar="status[,status...]", help="NONE EXPECTED SEEN_REPLY ASSURED CONFIRMED"),
       Opt("ctexpire", "u32:range", invert=True, metavar="time[:time]", help="seconds left, both ends included"),
       Opt("ctdir", "own", metavar="ORIGINAL|REPLY", help="direction of the packet"))
class Conntrack:
    def read_ctstate(self, draft, opt, text, env):
        bits = parse_names(text, STATES)
        if bits is None:
            bad = next(word for word in text.split(",") if parse_names(word, STATES) is None)
            raise RuleError(f'Bad ctstate "{bad}"', offset=text.index(bad))
        draft.values["ctstate"] = bits

    def read_ctstatus(self, draft, opt, text, env):
        bits = parse_names(text, STATUSES)
        if bits is None:
            bad = next(word for word in text.split(",") if parse_names(word, STATUSES) is None)
            raise RuleError(f'Bad ctstatus "{bad}"', offset=text.index(bad))
        draft.values["ctstatus"] = bits

    def read_ctdir(self, draft, opt, text, env):
        if text.upper() not in DIRECTIONS:
            raise RuleError(f'conntrack: Bad value for "--ctdir" option: "{text}"')
        draft.values["ctdir"] = DIRECTIONS.index(text.upper())

    def read_ctorigsrcport(self, draft, opt, text, env):
        draft.values[opt.key] = read_port(text, opt, env)

    read_ctorigdstport = read_ctreplsrcport = read_ctrepldstport = read_ctorigsrcport

    def final(self, draft, env):
        if not draft.seen:
            raise RuleError("conntrack: At least one option is required")

    def parts(self, use, resolver):
        """(option, inverted, value as text) in the order of printing."""
        for key in PRINTED:
            if key in use.values:
                yield key, key in use.inverted, self.value_text(key, use.values[key])

    def value_text(self, key: str, value) -> str:
        if key == "ctstate":
            return names_text(value, STATES)
        if key == "ctstatus":
            return names_text(value, STATUSES) or "NONE"
        if key == "ctdir":
            return DIRECTIONS[value]
        return self.by_name[key].text(value) if key not in PORTS else f"{value[0]}" if value[0] == value[1] else f"{value[0]}:{value[1]}"

    def save(self, use):
        return "".join(f"{' !' if inverted else ''} --{key} {text}" for key, inverted, text in self.parts(use, None))

    def show(self, use, numeric, resolver):
        return " ".join(f"{'! ' if inverted else ''}{key} {text}" for key, inverted, text in self.parts(use, resolver))

    def lower(self, use, rule):
        values, inverted = use.values, use.inverted
        asked = sum(bit for key, bit in ASK.items() if key in values)
        invert = sum(bit for key, bit in ASK.items() if key in inverted)
        info = struct.pack("<4H2IBBH2I", asked, invert, values.get("ctstate", 0), values.get("ctstatus", 0),
                           *values.get("ctexpire", (0, 0)), values.get("ctproto", 0), values.get("ctdir", 0), 0, 0, 0)
        for key in ADDRESSES:
            address, mask = values.get(key, (b"", b""))
            info += struct.pack("<16s16sI", names.masked(address, mask) if mask else b"", mask, 0)
        for key in PORTS:
            info += struct.pack("<2H", *values.get(key, (0, 0)))
        fields = state_field(values["ctstate"], "ctstate" in inverted) if "ctstate" in values else ()
        return [Test("conntrack", info, fields, reads=READS_PACKET if "ctexpire" in values else READS_FLOW, features=TRACKED)]
