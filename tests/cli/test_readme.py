"""README.md says what is: verbs, exit codes, rooms, matches and targets."""

import re
from pathlib import Path

from nfqfw.cli import exits
from nfqfw.cli.main import VERBS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ROOMS = README.split("## Rooms")[1].split("\n## ")[0]


def extensions(kind: str) -> set[str]:
    """Names that have a room: m_NAME.py or t_NAME.py."""
    return {path.stem[2:] for path in (ROOT / "nfqfw" / "ext").glob(f"{kind}_*.py")}


def row(title: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", re.search(rf"^\| {title} \|(.*)\|$", README, re.M)[1]))


def test_verbs():
    present = {verb for verb in VERBS if (ROOT / "nfqfw" / "cli" / f"{verb}.py").exists()}
    table = README.split("| verb |")[1].split("\n\n")[0]
    assert {verb for verb in present if f"`{verb}`" not in table} == set()


def test_exit_codes():
    for code, meaning in exits.MEANING.items():
        assert f"| {code} | {meaning} |" in README


def test_every_room_of_the_package_is_in_the_table():
    rooms = {path.name for path in (ROOT / "nfqfw").iterdir() if path.is_dir() and any(path.glob("*.py")) and path.name not in ("__pycache__",)}
    assert {room for room in rooms if f"{room}/`" not in ROOMS} <= {"data"}
    for path in re.findall(r"`((?:nfqfw|netns|bench|tests)/[\w/]*)`", ROOMS):
        assert (ROOT / path.rstrip("_")).exists() or list(ROOT.glob(path + "*")), path


def test_matches():
    assert row("matches") == extensions("m")


def test_targets():
    assert row("targets") - {"ACCEPT", "DROP", "RETURN"} == extensions("t")


def test_no_placeholder_is_left():
    assert not re.search(r"@[A-Z]+@", README)
