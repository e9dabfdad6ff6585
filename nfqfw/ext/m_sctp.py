"""match sctp: ports and chunks."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import Only, Opt, match
from nfqfw.ext.lowering import PAYLOAD, Test
from nfqfw.ext.ports import EVERY, port_fields, port_opts, save_ports, shown_ports
from nfqfw.protocols import SCTP

# name, number, letters of its flags from bit 7 to bit 0, "-" = none
CHUNKS = (
    ("DATA", 0, "----IUBE"), ("INIT", 1, "--------"), ("INIT_ACK", 2, "--------"), ("SACK", 3, "--------"), ("HEARTBEAT", 4, "--------"),
    ("HEARTBEAT_ACK", 5, "--------"), ("ABORT", 6, "-------T"), ("SHUTDOWN", 7, "--------"), ("SHUTDOWN_ACK", 8, "--------"),
    ("ERROR", 9, "--------"), ("COOKIE_ECHO", 10, "--------"), ("COOKIE_ACK", 11, "--------"), ("ECN_ECNE", 12, "--------"),
    ("ECN_CWR", 13, "--------"), ("SHUTDOWN_COMPLETE", 14, "-------T"), ("I_DATA", 64, "----IUBE"), ("RE_CONFIG", 130, "--------"),
    ("PAD", 132, "--------"), ("ASCONF", 193, "--------"), ("ASCONF_ACK", 128, "--------"), ("FORWARD_TSN", 192, "--------"),
    ("I_FORWARD_TSN", 194, "--------"),
)
BY_NAME = {name: (number, letters) for name, number, letters in CHUNKS}
BY_NUMBER = {number: (name, letters) for name, number, letters in CHUNKS}
MODES = ("any", "all", "only")
EVERY_CHUNK = tuple(range(256))


def parse_chunks(text: str):
    """((number, mask, flags), ...) in the order of numbers; ALL and NONE are kept as words."""
    if text.upper() in ("ALL", "NONE"):
        return text.upper()
    out = {}
    for word in text.split(","):
        name, colon, letters = word.partition(":")
        if name.upper() not in BY_NAME:
            raise RuleError(f"Unknown sctp chunk `{name}'", offset=text.index(word))
        number, known = BY_NAME[name.upper()]
        mask = flags = 0
        for letter in letters:
            at = known.find(letter.upper())
            if at < 0 or letter == "-":
                raise RuleError(f"Invalid flags for chunk type {number}", offset=text.index(word))
            bit = 1 << 7 - at
            mask |= bit
            flags = flags | bit if letter.isupper() else flags & ~bit
        out[number] = number, mask, flags
    return tuple(sorted(out.values()))


def chunk_text(chunk, numeric: bool) -> str:
    number, mask, flags = chunk
    name, letters = BY_NUMBER[number]
    words = "".join((letter if flags >> 7 - i & 1 else letter.lower()) for i, letter in enumerate(letters) if mask >> 7 - i & 1)
    return (f"0x{number:04X}" if numeric else name) + (":" + words if words else "")


@match("sctp", *port_opts(once=False),
       Opt("chunk-types", "own", words=2, invert=True, key="chunks", metavar="{all|any|only} chunktype[:flags],...",
           help="all, any or only these chunks are there; flags as letters, capital = set\n" + " ".join(name for name, *_ in CHUNKS) + " ALL NONE"),
       only=Only(protocols=(SCTP,)))
class Sctp:
    def read_chunks(self, draft, opt, text, env):
        if text.lower() not in MODES:
            raise RuleError('Match type has to be one of "ALL", "ANY" or "ONLY"')
        chunks = draft.more()
        if chunks is None or chunks.startswith(("-", "!")):
            raise RuleError("--chunk-types requires two args")
        draft.values["chunks"] = text.lower(), parse_chunks(chunks)

    def chunks_text(self, use, numeric: bool) -> str:
        mode, chunks = use.values["chunks"]
        return f"{mode} " + (chunks if isinstance(chunks, str) else ",".join(chunk_text(chunk, numeric) for chunk in chunks))

    def save(self, use):
        out = save_ports(use)
        if "chunks" in use.values:
            out += f"{' !' if 'chunks' in use.inverted else ''} --chunk-types {self.chunks_text(use, False)}"
        return out

    def show(self, use, numeric, resolver):
        out = ["sctp", *shown_ports(use, SCTP, numeric, resolver)]
        if "chunks" in use.values:
            out.append(("! " if "chunks" in use.inverted else "") + self.chunks_text(use, numeric))
        return " ".join(out)

    def lower(self, use, rule):
        values = use.values
        mode, chunks = values.get("chunks", ("any", ()))
        invert = sum(bit for key, bit in (("sport", 1), ("dport", 2), ("chunks", 4)) if key in use.inverted)
        numbers = EVERY_CHUNK if chunks == "ALL" else () if chunks == "NONE" else tuple(number for number, _, _ in chunks)
        flagged = [] if isinstance(chunks, str) else [chunk for chunk in chunks if chunk[1]]
        bits = sum(1 << number for number in numbers)
        info = struct.pack("<4HBBBB", *values.get("sport", EVERY), *values.get("dport", EVERY), "chunks" in values, MODES.index(mode),
                           invert, len(flagged)) + bits.to_bytes(32, "little")
        info += b"".join(bytes((*chunk, 0)) for chunk in flagged).ljust(16, b"\0")
        return [Test("sctp", info, port_fields(use), features=(PAYLOAD,) if "chunks" in values else ())]
