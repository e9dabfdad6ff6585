"""The harness finds planted bugs: each is noticed within 2,000 recorded cases, and the build without one shows none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.oracle.mutations import IMPORT, MUTATED, MUTATIONS
from tests.oracle.recording import RECORDING

ROOT = Path(__file__).parents[2]
CASES = 2000                    # that a planted bug may take; below the first seed of unsupported.toml
BUILD_SECONDS, RUN_SECONDS = 900, 240

RUN = """
import sys
from pathlib import Path
from nfqfw.selftest import lanes
report = lanes.check_recording(Path(sys.argv[1]), int(sys.argv[2]), first_only=True)
print(report.cases, next(iter(report.different.items()), None))
sys.exit(1 if report.different else 0)
"""


def plant(tree: Path) -> None:
    """Every mutation into the copy, each behind its number; an edit that does not apply is an error."""
    (tree / "nfqfw/_mutated.pxd").write_text(MUTATED)
    touched = set()
    for number, mutation in enumerate(MUTATIONS, 1):
        path = tree / mutation.file
        text = path.read_text()
        assert text.count(mutation.old) == 1, f"{mutation.file}: {mutation.old!r} is there {text.count(mutation.old)} times"
        text = text.replace(mutation.old, mutation.new.replace("{n}", str(number)))
        if path not in touched:
            first = min(at for at in (text.find("\nfrom "), text.find("\ncimport ")) if at >= 0) + 1
            text = text[:first] + IMPORT + text[first:]
            touched.add(path)
        path.write_text(text)


@pytest.fixture(scope="module")
def mutant(tmp_path_factory):
    """A copy of the tree with every planted bug compiled in, all of them off."""
    tree = tmp_path_factory.mktemp("mutant")
    for name in ("nfqfw", "setup.py", "pyproject.toml", "README.md"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy2(source, tree / name)
    plant(tree)
    done = subprocess.run([sys.executable, "setup.py", "build_ext", "--inplace"], cwd=tree, capture_output=True, text=True,
                          timeout=BUILD_SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return tree


def run(tree: Path, number: int) -> subprocess.CompletedProcess:
    environment = dict(os.environ, NFQFW_MUTATION=str(number), PYTHONPATH=str(tree))
    return subprocess.run([sys.executable, "-c", RUN, str(RECORDING), str(CASES)], cwd=tree, env=environment,
                          capture_output=True, text=True, timeout=RUN_SECONDS, check=False)


def test_without_a_planted_bug_nothing_differs(mutant):
    done = run(mutant, 0)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("number", range(1, len(MUTATIONS) + 1), ids=[m.name for m in MUTATIONS])
def test_planted_bug_is_noticed(mutant, number):
    done = run(mutant, number)
    assert done.returncode == 1, f"{MUTATIONS[number - 1].name}: not noticed\n{done.stdout}{done.stderr}"


def test_the_product_has_no_mutation_points():
    for path in [*ROOT.glob("nfqfw/**/*.pyx"), *ROOT.glob("nfqfw/**/*.pxd")]:
        assert "mutated(" not in path.read_text(), path
