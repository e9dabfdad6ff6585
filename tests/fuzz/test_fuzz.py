"""A short run of every fuzzer: the doors optimised and under the sanitizers, the readers as they are.  Long runs: README.md here."""

import shutil
import subprocess

import pytest

from tests.fuzz import run, seeded
from tests.fuzz.readers import TARGETS


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


DATAGRAMS = """
import sys
sys.path.insert(0, ".")
from tests.fuzz import seeded, setting
from tests.fuzz.readers import Target
keep, door = setting.capsule("messages"), setting.door("messages")
for data in seeded.inputs(Target(door.story, setting.datagrams, 512), {seed}, {count}):
    door.story(data)
print(*door.counts())
"""


@pytest.mark.timeout(900)
@pytest.mark.skipif(not shutil.which("gcc"), reason="no compiler")
@pytest.mark.parametrize("kind", ["plain", "asan"])
def test_changed_datagrams_break_no_invariant(kind):
    try:
        inputs, packets = map(int, run.inside(kind, ["-c", DATAGRAMS.format(seed=20261128, count=20_000)], 300).split())
    except subprocess.CalledProcessError as error:
        pytest.fail(error.stderr)
    assert inputs == 20_000 and packets > 5_000         # it reaches packets, not only what is malformed


COUNTS = {"rules": 1500, "commands": 6000, "conntrack": 3000, "nfct": 3000, "netlink": 10_000, "capture": 3000, "host": 3000, "control": 10_000}


def test_every_reader_is_run():
    assert run.READERS == tuple(TARGETS) == tuple(COUNTS)


@pytest.mark.parametrize("target", COUNTS)
def test_changed_inputs_break_no_invariant(target):
    seeded.run(target, 20261128, COUNTS[target])


def test_names_with_a_form_feed_are_saved_and_read():
    """Found by the fuzzer of nfct: str.splitlines takes more for the end of a line than a newline."""
    TARGETS["nfct"].one(b"add timeout a\x0cb inet tcp established 5\nadd timeout c\xe2\x80\xa8d inet6 udp replied 5\nlist timeout")
