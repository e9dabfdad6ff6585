"""README's accepted differences: each row is of a known kind, has a reason, and names a test that exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = ("not visible to NFQUEUE", "random value", "improvement")


def table() -> list[list[str]]:
    """Cells of each row below the heading of the section."""
    section = (ROOT / "README.md").read_text().split("## Accepted differences from Linux", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip().strip("|").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


@pytest.mark.parametrize("row", table(), ids=lambda row: row[0][:40])
def test_a_difference_has_a_kind_a_reason_and_a_test(row):
    what, linux, ours, kind_and_reason, test = row
    kind, _, reason = kind_and_reason.partition(": ")
    assert all((what, linux, ours, reason)) and kind in KINDS
    path, _, name = re.fullmatch(r"`([^`]+)`", test)[1].partition("::")
    assert (ROOT / path).is_file(), path
    assert not name or f"def {name}(" in (ROOT / path).read_text(), test


def test_there_is_a_table():
    assert len(table()) > 10
