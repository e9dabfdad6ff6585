"""Reading and printing of ICMP types, for both families."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.lowering import READS_FLOW, Test, field
from nfqfw.ext.names import unsigned


def parse_type(text: str, table, protocol: str = "ICMP") -> tuple[int, int, int]:
    """A name (abbreviated as far as it is unique), a type, or type/code: type, lowest and highest code.  The protocol is
    called `protocol` in the errors."""
    lowered = text.lower()
    found = None
    for name, kind, low, high in table:
        if lowered and name.lower().startswith(lowered):
            if found is not None and found[0] != name and lowered not in (name.lower(), found[0].lower()):
                raise RuleError(f"Ambiguous {protocol} type `{text}': `{found[0]}' or `{name}'?")
            if found is None or name.lower() == lowered:
                found = name, kind, low, high
    if found is not None:
        return found[1:]
    type_text, slash, code_text = text.partition("/")
    kind = unsigned(type_text, 0, 255)
    if kind is None:
        raise RuleError(f"Unknown {protocol} type `{type_text}'" if slash else f"Unknown {protocol} type `{text}'")
    if not slash:
        return kind, 0, 255
    code = unsigned(code_text, 0, 255)
    if code is None:
        raise RuleError(f"Unknown {protocol} code `{text}'", offset=len(type_text) + 1)
    return kind, code, code


def show_type(value, inverted: bool, table, numeric: bool, protocol: str) -> str:
    """`icmptype 8`, `icmp !echo-request`: the words of -L."""
    sign = "!" if inverted else ""
    kind, low, high = value
    if not numeric:
        for name, *entry in table:
            if tuple(entry) == value:
                return f"{protocol} {sign}{name}"
    codes = "" if (low, high) == (0, 255) else f" code {low}" if low == high else f" codes {low}-{high}"
    return f"{protocol} {sign}type {kind}{codes}" if inverted else f"{protocol}type {kind}{codes}"


def save_type(value) -> str:
    kind, low, high = value
    return f"{kind}" if (low, high) == (0, 255) else f"{kind}/{low}"


def lower_type(op: str, value, inverted: bool) -> list[Test]:
    kind, low, high = value
    info = struct.pack("<4B", kind, low, high, inverted)
    if op == "icmp" and kind == 255:
        return [Test(op, info, reads=READS_FLOW)]
    return [Test(op, info, (field("icmp", ((kind << 8 | low, kind << 8 | high),), inverted, 65535),), reads=READS_FLOW)]


def help_types(table, title: str) -> list[str]:
    """The list of names: aliases in brackets, codes indented below their type."""
    lines, last = [title], None
    for name, kind, low, high in table:
        if last == (kind, low, high):
            lines[-1] += f" ({name})"
        else:
            lines.append(name if high - low == 255 else f"   {name}")
        last = kind, low, high
    return lines
