"""Names of connection labels: /etc/xtables/connlabel.conf, one `number name` a line, as libnetfilter_conntrack and iptables read it.

A number as strtoul(3) reads it with base 0, then blanks, then the name: the rest of the line, of letters, digits and spaces.  Of two
lines with one number or one name the first counts.  Checked against the tools in tests/conntrack/test_labels.py.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache

FILE = "/etc/xtables/connlabel.conf"
LABELS = 128                    # of a connection
NUMBERS = 1_024                 # that a file may name: the library's
LINE = re.compile(r"\s*\+?(0[xX][0-9a-fA-F]+|[0-9]+)(.*)$")


def named() -> dict[str, int]:
    """Number of each name, in the order of the file; {} without one.  Not to be changed."""
    try:
        status = os.stat(FILE)
        return read(FILE, status.st_mtime_ns, status.st_size, status.st_ino)
    except OSError:
        return {}


@lru_cache(4)
def read(path: str, *version: int) -> dict[str, int]:
    """What a file says; read again when its version is another."""
    out: dict[str, int] = {}
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        for line in file:
            add(out, line)
    return out


def add(out: dict[str, int], line: str) -> None:
    found = LINE.match(line)
    if found is None or line.startswith("#"):
        return
    number, name = strtoul(found[1]), found[2].strip()
    if number < NUMBERS and number not in out.values() and name not in out and re.fullmatch(r"[A-Za-z0-9 ]+", name):
        out[name] = number


def strtoul(digits: str) -> int:
    """Base 0: 0x is hexadecimal, a leading 0 octal (and ends before an 8 or 9)."""
    if digits[:2].lower() == "0x":
        return int(digits, 16)
    if digits.startswith("0"):
        return int("0" + re.match("[0-7]*", digits)[0], 8)
    return int(digits)


def name_of(number: int) -> str:
    """The name of a label, '' if it has none."""
    return next((name for name, value in named().items() if value == number), "")


def names_of(bits: int) -> list[str]:
    """Names of the labels in `bits`, in the order of their numbers; those without a name are left out."""
    return [name for name, number in sorted(named().items(), key=lambda item: item[1]) if bits >> number & 1]
