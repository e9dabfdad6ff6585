"""match string: bytes anywhere in the packet."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import KernelRefusal, Opt, match
from nfqfw.ext.lowering import PAYLOAD, Test

PATTERN_BYTES = 128
ALGORITHMS = ("bm", "kmp")
EVERYWHERE = 65535
EITHER = ("string", "hex-string")


def parse_hex(text: str) -> bytes:
    """Characters as they are, `|..|` hexadecimal, `\\` takes the next character as it is."""
    out, inside, at = bytearray(), False, 0
    while at < len(text):
        char = text[at]
        if char == "\\" and not inside:
            if at + 1 >= len(text):
                raise RuleError("Bad literal placement at end of string", offset=at)
            out += text[at + 1].encode(errors="surrogateescape")
            at += 2
        elif char == "|":
            inside = not inside
            at += 1
        elif inside:
            at = hex_byte(text, at, out)
        else:
            out += char.encode(errors="surrogateescape")
            at += 1
    if not out:
        raise RuleError("Invalid hex block")
    return bytes(out)


def hex_byte(text: str, at: int, out: bytearray) -> int:
    """Two digits, spaces between bytes; where it ends."""
    if text[at] == " ":
        return at + 1
    pair = text[at:at + 2]
    if len(pair) < 2:
        raise RuleError("Odd number of hex digits", offset=at)
    if pair[1] in "| ":
        raise RuleError("Invalid hex block", offset=at)
    for char in pair:
        if char not in "0123456789abcdefABCDEF":
            raise RuleError(f"Invalid hex char '{char}'", offset=at)
    out.append(int(pair, 16))
    return at + 2


def is_hex(pattern: bytes) -> bool:
    """Whether the pattern is printed in hexadecimal: something in it is not printable."""
    return any(byte < 32 or byte > 126 for byte in pattern)


def pattern_text(pattern: bytes) -> str:
    if is_hex(pattern):
        return f'"|{pattern.hex()}|"'
    return '"' + "".join("\\" + chr(b) if chr(b) in "\"\\" else chr(b) for b in pattern) + '"'


def failure_table(pattern: bytes) -> bytes:
    """For each prefix the length of its longest proper border: Knuth, Morris, Pratt."""
    table = [0] * len(pattern)
    length = 0
    for i in range(1, len(pattern)):
        while length and pattern[i] != pattern[length]:
            length = table[length - 1]
        if pattern[i] == pattern[length]:
            length += 1
        table[i] = length
    return bytes(table)


@match("string",
       Opt("from", "u16", help="first byte looked at, counted from the IP header; 0"),
       Opt("to", "u16", help="where the search ends; 65535"),
       Opt("algo", "string", required=True, high=15, metavar="bm|kmp", help="how the kernel would search"),
       Opt("string", "own", key="pattern", invert=True, excludes=EITHER, metavar="string", help="the bytes as text"),
       Opt("hex-string", "own", key="pattern", invert=True, excludes=EITHER, metavar="string", help="the same, with |hex| parts"),
       Opt("icase", help="letters in either case"))
class String:
    def read_pattern(self, draft, opt, text, env):
        raw = parse_hex(text) if opt.name == "hex-string" else text.encode(errors="surrogateescape")
        if len(raw) > PATTERN_BYTES:
            raise RuleError(f'STRING too long "{text}"')
        draft.values["pattern"] = raw

    def read_algo(self, draft, opt, text, env):
        draft.values["algo"] = text[:15]

    def final(self, draft, env):
        if "pattern" not in draft.values:
            raise RuleError("STRING match: You must specify `--string' or `--hex-string'")
        draft.values.setdefault("from", 0)
        draft.values.setdefault("to", EVERYWHERE)

    def save(self, use):
        values = use.values
        option = "hex-string" if is_hex(values["pattern"]) else "string"
        out = f"{' !' if 'pattern' in use.inverted else ''} --{option} {pattern_text(values['pattern'])} --algo {values['algo']}"
        if values["from"]:
            out += f" --from {values['from']}"
        if values["to"] != EVERYWHERE:
            out += f" --to {values['to']}"
        return out + (" --icase" if "icase" in values else "")

    def show(self, use, numeric, resolver):
        values = use.values
        out = f"STRING match {'!' if 'pattern' in use.inverted else ''} {pattern_text(values['pattern'])} ALGO name {values['algo']}"
        if values["from"]:
            out += f" FROM {values['from']}"
        if values["to"] != EVERYWHERE:
            out += f" TO {values['to']}"
        return out + (" ICASE" if "icase" in values else "")

    def check(self, use, rule):
        values = use.values
        if values["from"] > values["to"] or not values["pattern"]:
            raise KernelRefusal("EINVAL")
        if values["algo"] not in ALGORITHMS:
            raise KernelRefusal("ENOENT")

    def lower(self, use, rule):
        values = use.values
        icase = "icase" in values
        pattern = values["pattern"].upper() if icase else values["pattern"]
        info = struct.pack("<HHBBBx128s128s", values["from"], values["to"], len(pattern), icase, "pattern" in use.inverted,
                           pattern, failure_table(pattern))
        return [Test("string", info, features=(PAYLOAD,))]
