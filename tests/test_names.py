"""Names that exist twice, in a .pxd for C and in a .py for people, agree: order and spelling."""

import re
from pathlib import Path

import pytest

from nfqfw import ops, reasons

ROOT = Path(__file__).parent.parent / "nfqfw"


def enum_members(path: Path, name: str) -> list[str]:
    """Members of one `cdef enum`, in order; the members' values must be implicit, or count up from 0 (checked here)."""
    lines = iter(path.read_text().splitlines())
    for line in lines:
        if re.match(rf"cdef enum {name}:", line):
            break
    else:
        raise AssertionError(f"{path.name}: no enum {name}")
    members = []
    for line in lines:
        if line and not line.startswith((" ", "\t")):
            break
        word = re.match(r"\s+([A-Z][A-Z0-9_]*)(?:\s*=\s*(\w+))?", line)
        if word:
            assert word[2] in (None, str(len(members))), f"{path.name}: {word[1]} = {word[2]} breaks the count"
            members.append(word[1])
    return members


# enum, its file, prefix of its members, the names in Python
PAIRS = [
    ("Reason", "_packet.pxd", "REASON_", reasons.REASONS),
    ("Op", "_ops.pxd", "OP_", ops.TESTS),
    ("Action", "_ops.pxd", "ACTION_", ops.ACTIONS),
]


@pytest.mark.parametrize("enum, file, prefix, names", PAIRS, ids=[pair[0] for pair in PAIRS])
def test_the_python_names_are_those_of_the_enum(enum, file, prefix, names):
    members = enum_members(ROOT / file, enum)
    assert members[-1] == prefix + "COUNT"
    assert tuple(member.removeprefix(prefix).lower() for member in members[:-1]) == tuple(names)


def test_every_opcode_has_a_case_in_the_dispatch():
    """One switch over enum Op, one over enum Action: an opcode without a case would be a rule that nothing evaluates."""
    words = set(re.findall(r"\b(?:OP|ACTION)_[A-Z0-9_]+", (ROOT / "ext" / "_dispatch.pxd").read_text()))
    wanted = {f"OP_{name.upper()}" for name in ops.TESTS} | {f"ACTION_{name.upper()}" for name in ops.ACTIONS}
    assert not wanted - words
