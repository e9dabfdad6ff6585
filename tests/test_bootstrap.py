"""bootstrap.sh: says what is missing and how to mend it, and does nothing twice."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def bare(tmp_path):
    """A copy of the script in a checkout of its own, and a PATH with the shell's helpers only."""
    for name in ("bootstrap.sh", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "dirname", "cat", "id", "cksum", "cut", "mktemp", "rm", "tail", "touch"):
        (programs / name).symlink_to(shutil.which(name))
    return tmp_path


def bootstrap(checkout, *argv, **programs) -> subprocess.CompletedProcess:
    """programs: name=script text to put into PATH."""
    for name, text in programs.items():
        path = checkout / "bin" / name.replace("_", "-")
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
    return subprocess.run([str(checkout / "bin" / "sh"), "./bootstrap.sh", *argv], cwd=checkout, env={"PATH": str(checkout / "bin")},
                          capture_output=True, text=True, timeout=60)


def test_without_apt_it_names_the_packages(bare):
    done = bootstrap(bare, "run")
    assert done.returncode == 1
    assert "missing: " in done.stderr and "curl" in done.stderr and "fix: " in done.stderr


def test_without_root_it_gives_the_command(bare):
    (bare / "bin" / "id").unlink()
    done = bootstrap(bare, "run", apt_get="exit 1\n", id="echo 1000\n")
    assert done.returncode == 1
    assert "fix: as root: apt-get install --no-install-recommends " in done.stderr


def test_when_apt_fails_its_words_are_shown(bare):
    (bare / "bin" / "id").unlink()
    done = bootstrap(bare, "run", apt_get='echo "E: Unable to locate package $*"; exit 100\n', id="echo 0\n")
    assert done.returncode == 1
    assert "E: Unable to locate package" in done.stderr and "apt-get could not install: " in done.stderr and "fix: " in done.stderr


def test_a_python_that_will_not_do_is_named(bare):
    done = subprocess.run(["sh", "./bootstrap.sh", "run"], cwd=bare, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHON": "/bin/false"},
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "/bin/false is no Python >= 3.11" in done.stderr


def test_it_takes_run_or_test(bare):
    assert bootstrap(bare).returncode in (0, 1)
    done = bootstrap(bare, "everything")
    assert (done.returncode, done.stderr) == (2, "usage: bootstrap.sh run|test\n")
