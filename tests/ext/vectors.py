"""Vector files: what a rule is saved as, or why it is refused.

    # remark
    @ raw PREROUTING 4         table, chain and families (4, 6, 46) of the lines below; at first: filter INPUT 46
    rule ; saved form ; OK     `=` as saved form: the rule itself; empty: nothing but the chain
    rule ; message ; FAIL      part of the first line of standard error
    ... ; 1.8.9: saved form    what iptables 1.8.9 saves instead (a named difference to 1.8.13), or
    ... ; 1.8.9: FAIL          that it refuses it

Written by hand; both our applet and the installed iptables-legacy are held to them.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent


class Vector(NamedTuple):
    file: str
    line: int
    table: str
    chain: str
    family: int             # 4 or 6
    rule: str
    wanted: str             # saved form, or part of the error
    ok: bool
    old: str | None         # what 1.8.9 does, where it differs

    @property
    def words(self) -> list[str]:
        return shlex.split(self.rule)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:v{self.family}"


def read(path: Path) -> list[Vector]:
    out = []
    table, chain, families = "filter", "INPUT", "46"
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("@"):
            table, chain, families = line[1:].split()
            continue
        parts = [part.strip() for part in line.split(" ; ")] if " ; " in line else [line]
        rule, wanted, result, *old = parts
        assert result in ("OK", "FAIL"), f"{path.name}:{number}"
        wanted = rule if wanted == "=" else wanted
        different = old[0].removeprefix("1.8.9:").strip() if old else None
        out += [Vector(path.name, number, table, chain, int(family), rule, wanted, result == "OK", different) for family in families]
    return out


def every() -> list[Vector]:
    return [vector for path in sorted(HERE.glob("*.t")) for vector in read(path)]
