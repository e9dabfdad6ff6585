"""Security parameter indexes: what esp, ah and ipcomp have in common."""

from __future__ import annotations

from nfqfw.ext.values import range_text

EVERY = (0, 0xFFFFFFFF)


def drop_full(draft, key: str) -> None:
    """A range over all numbers that is not inverted tests nothing."""
    if draft.values.get(key) == EVERY and key not in draft.inverted:
        del draft.values[key]


def save_spi(use, key: str, option: str) -> str:
    if key not in use.values:
        return ""
    return f"{' !' if key in use.inverted else ''} --{option} {range_text(use.values[key])}"


def show_range(use, key: str, word: str) -> str:
    """`spi:5`, `spis:!1:5`; '' if not asked."""
    if key not in use.values:
        return ""
    low, high = use.values[key]
    sign = "!" if key in use.inverted else ""
    return f"{word}:{sign}{low}" if low == high else f"{word}s:{sign}{low}:{high}"
