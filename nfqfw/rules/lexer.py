"""A line of a ruleset file -> words with their places, as iptables-restore splits it.

Words are separated by spaces and tabs.  `"` starts a quoted part and its end also ends the word; `\\` takes the next
character as it is inside quotes and is an ordinary character outside; so is `'` everywhere.  An unterminated quote is
refused, where iptables-restore swallows the rest of the line, and so are control characters (named differences): a save
file must not be able to carry a line that nobody wrote.
"""

from __future__ import annotations

import re

from nfqfw.errors import RuleError

BARE = re.compile(r'[^ \t"]+')
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Word(str):
    """A word of a line; column counts from 1, length is what it takes in the line, quotes included."""

    __slots__ = ("column", "length", "quoted")

    def __new__(cls, text: str, column: int, length: int, quoted: bool = False):
        word = super().__new__(cls, text)
        word.column = column
        word.length = length
        word.quoted = quoted
        return word


def split(line: str) -> list[Word]:
    """Words of a line without its newline.  Raises RuleError with the column in `offset`."""
    found = CONTROL.search(line)
    if found:
        raise RuleError(f"control character {found.group()!r} in the line", offset=found.start())
    words, at, end = [], 0, len(line)
    while at < end:
        if line[at] in " \t":
            at += 1
            continue
        start = at
        text, at, quoted = one_word(line, at, end)
        words.append(Word(text, start + 1, at - start, quoted))
    return words


def one_word(line: str, at: int, end: int) -> tuple[str, int, bool]:
    """The word that starts at `at`, where it ends, and whether a quote was in it."""
    found = BARE.match(line, at)
    if found and (found.end() == end or line[found.end()] != '"'):
        return found.group(), found.end(), False
    text = found.group() if found else ""
    start = at
    at = found.end() + 1 if found else at + 1
    while at < end:
        char = line[at]
        if char == '"':
            return text, at + 1, True
        if char == "\\":
            at += 1
            char = line[at:at + 1]
        text += char
        at += 1
    raise RuleError("a quote is not closed", offset=start)
