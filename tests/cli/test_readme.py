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
from tests.ext.test_kernel import FILES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ROOMS = README.split("## Rooms")[1].split("\n## ")[0]


ROWS = ("evaluated", "not evaluated yet", "not possible")
HEAD = ("| | names | shown by |", "| --- | --- | --- |")
KINDS = {"matches": ("-m", registry.MATCH_MODULES, registry.find_match), "targets": ("-j", registry.TARGET_MODULES, registry.find_target)}

# test -> names whose evaluation it shows; matches that are in FILES of test_kernel are not named here
SHOWN = {
    "tests/ext/test_kernel.py": "",
    "tests/ext/test_tables.py": "connlimit hashlimit limit recent",
    "tests/ext/test_state.py": "time",
    "tests/ext/test_effects.py": "CT LOG NOTRACK TRACE",
    "tests/conntrack/flows/expect.flow": "helper",
    "tests/engine/test_reject.py": "REJECT",
    "tests/nat/test_fuzz.py": "CHECKSUM",
    "tests/nat/test_rewrite.py": "CONNSECMARK SECMARK",
    "tests/nat/flows/dnat.flow": "DNAT REDIRECT",
    "tests/nat/flows/hl.flow": "DNPT HL SNPT",
    "tests/nat/flows/mangle.flow": "CLASSIFY CONNMARK DSCP MARK TCPMSS TCPOPTSTRIP TOS",
    "tests/nat/flows/masquerade.flow": "MASQUERADE",
    "tests/nat/flows/netmap.flow": "NETMAP",
    "tests/nat/flows/snat.flow": "SNAT",
    "tests/nat/flows/ttl.flow": "ECN TTL",
}
REFUSED = "tests/ext/test_refused.py"       # what is only read: each of its names, and the reason a live engine gives


def names_by_row() -> dict[str, set[str]]:
    """First words of rows of the README's table -> names that belong there, as the registry and the lowerings have them."""
    rows: dict[str, set[str]] = {f"{kind}, {what}": set() for kind in KINDS for what in ROWS}
    for kind, (_, modules, find) in KINDS.items():
        for name in modules:
            rows[f"{kind}, {refusal(find(name, 2) or find(name, 10))}"].add(name)
    return rows


def shown_by(name: str) -> str:
    """The test that shows the evaluation of a name; "" if none is known."""
    if name in FILES:
        return "tests/ext/test_kernel.py"
    return next((test for test, names in SHOWN.items() if name in names.split()), "")


def why_not(extension) -> str:
    """Reason of a live engine, without the words of the row and the name."""
    reason = reason_of(extension)
    return reason.split(": ")[-1] if ": " in reason else "Linux has it no more, or not in this form"


def table_rows() -> list[str]:
    """The README's table of names: a row for each test that shows some, then for each name that is not evaluated, with the reason."""
    out = list(HEAD)
    for title, names in names_by_row().items():
        if title.endswith(", evaluated"):
            for test in sorted({shown_by(name) for name in names}):
                out.append(row_text(title, {name for name in names if shown_by(name) == test}, f"`{test}`"))
            continue
        kind = title.partition(",")[0]
        reasons = {name: why_not(KINDS[kind][2](name, 2) or KINDS[kind][2](name, 10)) for name in names}
        for reason in sorted(set(reasons.values()), key=lambda text: min(n.lower() for n in names if reasons[n] == text)):
            out.append(row_text(f"{title}: {reason}", {name for name in names if reasons[name] == reason}, f"`{REFUSED}`"))
    return out


def reason_of(extension) -> str:
    """What a live engine says to a name that it never evaluates; "" for one that it does."""
    if type(extension).lower is api.Extension.lower:
        return "not evaluated yet"
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(type(extension).lower))).body
    body = [statement for statement in function.body if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))]
    last = body[-1].value if len(body) == 1 and isinstance(body[0], ast.Return) else None
    if not (isinstance(last, ast.Call) and getattr(last.func, "id", "") == "Unevaluated"):
        return ""
    return last.args[0].value if isinstance(last.args[0], ast.Constant) else "not evaluated yet"


def refusal(extension) -> str:
    """The row of an extension: a lowering that only returns Unevaluated("not …") says why by its first words."""
    reason = reason_of(extension)
    return next(row for row in ROWS if reason.startswith(row)) if reason else "evaluated"


def row_text(title: str, names: set[str], shown: str) -> str:
    return f"| {title} | {' '.join(f'`{name}`' for name in sorted(names, key=str.lower))} | {shown} |"


def table_now() -> list[str]:
    """The table as the README has it."""
    return README[README.index("| | names |"):].split("\n\n")[0].splitlines()


def write() -> None:
    """Bring the README's table of names up to date: `make readme`."""
    (ROOT / "README.md").write_text(README.replace("\n".join(table_now()), "\n".join(table_rows())))


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
    """Names in the rows of the README's table whose titles begin so."""
    return set().union(*(re.findall(r"`([^`]+)`", row.split(" | ")[1]) for row in table_now() if row.startswith(f"| {title}")))


@pytest.mark.parametrize("kind", list(KINDS))
def test_matches_and_targets(kind):
    """The README names every extension, and claims no more than the build does.  Less is a warning: make readme."""
    rows = {title: names for title, names in names_by_row().items() if title.startswith(kind)}
    assert set().union(*map(names_of, rows)) == set().union(*rows.values())
    assert names_of(f"{kind}, evaluated") <= rows[f"{kind}, evaluated"]
    if table_now() != table_rows():
        warnings.warn("README.md, the table of names is behind the build: make readme", stacklevel=1)


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_shows_an_evaluation_exists_and_has_the_name(kind):
    flag = KINDS[kind][0]
    for name in names_by_row()[f"{kind}, evaluated"]:
        test = shown_by(name)
        assert test, f"{name}: say in SHOWN which test shows its evaluation"
        text = (ROOT / test).read_text()
        assert name in FILES or f"{flag} {name}" in text or re.search(rf'"{name}"', text), f"{test} does not ask {name}"


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
