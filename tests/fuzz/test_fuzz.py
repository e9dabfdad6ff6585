"""A short run of the engine's fuzzers: random stories, optimised and under the sanitizers.  Long runs: README.md here."""

import shutil
import subprocess

import pytest

from tests.fuzz import run


def stories(kind: str, seed: int, seconds: int) -> dict:
    try:
        return run.storm(kind, seed, seconds)
    except subprocess.CalledProcessError as error:
        pytest.fail(f"seed {seed}: {error.stderr}")


@pytest.mark.skipif(not shutil.which("gcc"), reason="no compiler")
def test_random_stories_break_no_invariant():
    result = stories("plain", 20261123, 15)
    assert result["packets"] > 100_000
    assert {"bad_ip", "hotdrop", "rejected", "frag_overlap", "frag_bad"} <= set(result["drops"])   # it reaches what it should


@pytest.mark.timeout(900)
@pytest.mark.skipif(not shutil.which("gcc"), reason="no compiler")
def test_random_stories_under_the_sanitizers():
    result = stories("asan", 7, 15)
    assert result["packets"] > 20_000
