"""README.md says what is: verbs, exit codes, rooms, matches and targets."""

import ast
import inspect
import re
import textwrap
import warnings
from pathlib import Path

import pytest

from nfqfw.cli import exits
from nfqfw.cli.main import VERBS
from nfqfw.ext import api, registry

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ROOMS = README.split("## Rooms")[1].split("\n## ")[0]


ROWS = ("evaluated", "not evaluated yet", "not possible")


def names_by_row() -> dict[str, set[str]]:
    """First cell of a row of the README's table -> names that belong there, as the registry and the lowerings have them."""
    rows: dict[str, set[str]] = {f"{kind}, {what}": set() for kind in ("matches", "targets") for what in ROWS}
    for kind, modules, find in (("matches", registry.MATCH_MODULES, registry.find_match), ("targets", registry.TARGET_MODULES, registry.find_target)):
        for name in modules:
            rows[f"{kind}, {refusal(find(name, 2) or find(name, 10))}"].add(name)
    return rows


def refusal(extension) -> str:
    """The row of an extension: a lowering that only returns Unevaluated("not …") says why by its first words."""
    if type(extension).lower is api.Extension.lower:
        return "not evaluated yet"
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(type(extension).lower))).body
    body = [statement for statement in function.body if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))]
    last = body[-1].value if len(body) == 1 and isinstance(body[0], ast.Return) else None
    if not (isinstance(last, ast.Call) and getattr(last.func, "id", "") == "Unevaluated"):
        return "evaluated"
    reason = last.args[0].value if isinstance(last.args[0], ast.Constant) else "not evaluated yet"
    return next(row for row in ROWS if reason.startswith(row))


def row_text(title: str, names: set[str]) -> str:
    return f"| {title} | {' '.join(f'`{name}`' for name in sorted(names, key=str.lower)) or 'none'} |"


def write() -> None:
    """Bring the README's rows of names up to date: `make readme`."""
    text = README
    for title, names in names_by_row().items():
        text = re.sub(rf"^\| {title} \|.*\|$", row_text(title, names), text, flags=re.M)
    (ROOT / "README.md").write_text(text)


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


def names_of(title: str) -> set[str]:
    """Names in a row of the README's table."""
    return set(re.findall(r"`([^`]+)`", re.search(rf"^\| {title} \|(.*)\|$", README, re.M)[1]))


@pytest.mark.parametrize("kind", ["matches", "targets"])
def test_matches_and_targets(kind):
    """The README names every extension, and claims no more than the build does.  Less is a warning: make readme."""
    rows = {title: names for title, names in names_by_row().items() if title.startswith(kind)}
    assert set().union(*map(names_of, rows)) == set().union(*rows.values())
    assert names_of(f"{kind}, evaluated") <= rows[f"{kind}, evaluated"]
    for title, names in rows.items():
        if row_text(title, names) not in README.splitlines():
            warnings.warn(f"README.md, row '{title}' is behind the build: make readme", stacklevel=1)


def test_the_python_example_runs(tmp_path, monkeypatch):
    pytest.importorskip("nfqfw._engine", reason="needs the compiled engine")
    from nfqfw.demo.show import ruleset
    (tmp_path / "rules.v4").write_text(ruleset(4).read_text())
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README, re.S)
    scope: dict = {}
    exec(example, scope)
    scope["test_only_the_web_is_open"]()


def test_no_placeholder_is_left():
    assert not re.search(r"@[A-Z]+@", README)


if __name__ == "__main__":
    write()
