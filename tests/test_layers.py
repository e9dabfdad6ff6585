"""Imports point down: each room imports and cimports only rooms above it in the table of the design (README, "Rooms")."""

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "nfqfw"

# One row per layer, lowest first; a module belongs to the row whose prefix fits it longest.  Rooms of one row may use one another.
LAYERS = (
    ("limits", "errors", "files", "reasons", "ops", "packets", "__init__"),        # and every _x.pxd that has no _x.pyx: header-only structs and readers
    ("protocols", "wire"),
    ("ext",),
    ("rules",),
    ("_classify",),
    ("indexing",),
    ("_layout",),
    ("compile",),
    ("delta",),
    ("_arena",),
    ("_conntrack", "conntrack"),
    ("_nat", "_defrag"),
    ("_fastpath", "_registry"),
    ("plan", "_pipeline"),
    ("_engine",),
    ("_netlink", "_hostblock"),
    ("_hostjson", "_rtnetlink"),
    ("host", "_nfnetlink"),
    ("queue",),
    ("attach",),
    ("_probe",),
    ("report", "doctor"),
    ("daemon", "applet_client"),
    ("selftest", "demo", "replay", "testing"),
    ("cli", "__main__"),
)
HEADERS = {path.stem: 0 for path in PACKAGE.glob("_*.pxd") if not path.with_suffix(".pyx").exists()}
RANK = HEADERS | {room: rank for rank, row in enumerate(LAYERS) for room in row}

SOURCES = sorted(path for suffix in ("py", "pyx", "pxd") for path in PACKAGE.rglob(f"*.{suffix}"))
IMPORT = re.compile(r"^\s*(?:from\s+(nfqfw[\w.]*)\s+c?import\s+\(?([\w, ]*)|c?import\s+(nfqfw[\w.]*))", re.M)
RELATIVE = re.compile(r"^\s*from\s+\.", re.M)


def room_of(module: str) -> str:
    """The room of `nfqfw.queue._nfnetlink`, which is `queue`."""
    return (module.split(".") + ["__init__"])[1]


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for source, names, plain in IMPORT.findall(path.read_text()):
        module = source or plain
        if module == "nfqfw":
            rooms |= {name.split()[0] for name in names.split(",") if name.strip() and not name.strip().startswith("__")}
        else:
            rooms.add(room_of(module))
    return rooms


def own_room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_every_room_has_a_rank():
    assert {own_room(path) for path in SOURCES} <= set(RANK)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    rank = RANK[own_room(path)]
    above = {room for room in imported_rooms(path) if RANK.get(room, len(LAYERS)) > rank}
    assert not above, f"{path} is in layer {LAYERS[rank][0]} and imports {sorted(above)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_are_absolute_and_nothing_is_included(path):
    text = path.read_text()
    assert not RELATIVE.search(text)
    assert not re.search(r"^\s*(include\s+[\"']|DEF\s+\w+\s*=)", text, re.M)


# the offline path needs no root and imports no netlink: what `check`, `replay` and tests load
OFFLINE = (*HEADERS, "limits", "errors", "files", "ext", "rules", "compile", "_conntrack", "conntrack", "_fastpath", "_engine")


@pytest.mark.parametrize("path", [p for p in SOURCES if own_room(p) in OFFLINE], ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_offline_path_imports_no_netlink(path):
    assert not re.search(r"^\s*(?:from|import)\s+pyroute2", path.read_text(), re.M)


def test_the_test_sees_a_bad_import(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("from nfqfw.cli import main\nimport nfqfw.rules\nfrom nfqfw cimport _engine\nfrom nfqfw import limits, __version__\n")
    assert imported_rooms(bad) == {"cli", "rules", "_engine", "limits"}
