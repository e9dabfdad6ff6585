"""Connection states by name, for conntrack and state."""

from __future__ import annotations

from nfqfw.ext.lowering import FieldSet

# bit of each state; order = order of printing
STATES = (("INVALID", 1), ("NEW", 8), ("RELATED", 4), ("ESTABLISHED", 2), ("UNTRACKED", 256), ("SNAT", 64), ("DNAT", 128))
CLASSES = (1, 2, 4, 8, 256)         # the bit every packet has exactly one of


def parse_names(text: str, table) -> int | None:
    """Bits of comma separated names, abbreviated as far as one likes (the first that fits); None if one is unknown."""
    bits = 0
    for word in text.split(","):
        bit = next((b for name, b in table if word and name.startswith(word.upper())), None)
        if bit is None:
            return None
        bits |= bit
    return bits


def names_text(bits: int, table) -> str:
    return ",".join(name for name, bit in table if bits & bit)


def state_field(bits: int, inverted: bool) -> tuple[FieldSet, ...]:
    """The classes that can fulfil --ctstate; none to state if SNAT or DNAT could do it alone, whatever the class."""
    if bits & (64 | 128):
        return ()
    ranges = tuple((bit, bit) for bit in CLASSES if bool(bits & bit) != inverted)
    return (FieldSet("ctstate", ranges),)
