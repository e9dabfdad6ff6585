"""Security labels: a number on packets and connections for each context's text.

The number is derived from the text, so that it means the same after a reload and to another process.
"""

from __future__ import annotations

import zlib

CONTEXTS: dict[int, str] = {}           # number -> context; filled when a rule that names it is compiled


def label_of(context: str) -> int:
    """The number of a context; never 0."""
    label = zlib.crc32(context.encode(errors="surrogateescape")) or 1
    while CONTEXTS.setdefault(label, context) != context:       # two contexts with one CRC: the later one takes the next number
        label = label % 0xFFFFFFFF + 1
    return label


def context_of(label: int) -> str:
    """The context of a number, '' for 0; a number that no rule of this process named shows itself."""
    return CONTEXTS.get(label, f"unlabeled:{label:#x}") if label else ""
