"""docs/add_a_match.md quotes files that are built and tested, whole."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_quotes_the_files():
    blocks = re.findall(r"```\w*\n(.*?)```", (ROOT / "docs/add_a_match.md").read_text(), flags=re.S)
    files = ("nfqfw/ext/m_length.py", "nfqfw/ext/m_length.pxd", "tests/ext/length.t")
    assert blocks == [(ROOT / name).read_text() for name in files]
    assert sum(len(block.splitlines()) for block in blocks[:2]) <= 50
