"""The benchmarks measure what they say: CPU time of the right process, whole backlogs, honest medians."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.harness import Bench, Figure, Machine, Running, at_least, at_most, report, reported
from bench.result import Arguments, Check
from bench.packets import cpu_per_packet
from bench.subjects import SUBJECTS

ROOT = Path(__file__).parent.parent.parent
MACHINE = Machine("c", 2, "k", "p", "0.1", "abc", "2026-01-02 03:04")


def test_figure_is_median_and_range():
    assert Figure.of([3.0, 1.0, 2.0, 9.0, 2.5]) == Figure(2.5, 1.0, 9.0, 5)
    assert Figure(1234.5, 1, 2000, 3).text(1) == "1,234.5 (1.0–2,000.0)"


def test_cpu_clock_is_of_the_process_and_in_nanoseconds():
    code = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass\nprint(flush=True)\ntime.sleep(9)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        used = Running("x", process).cpu_ns()
        process.kill()
    assert 0.2e9 <= used < 0.6e9


def test_a_missed_target_is_the_exit_code_and_json_says_the_same(capsys):
    table = ["", "x"], [["a", "1"]]
    assert report("t", MACHINE, *table, [at_most("good", 1.0, 1.15), reported("seen", 7)], {}, False) == 0
    assert "ok   good: 1.00 (target ≤ 1.15)\n     seen: 7.00\n" in capsys.readouterr().out
    assert report("t", MACHINE, *table, [("bad", 2.0, False)], {}, False) == 1
    assert "MISS bad: 2.00" in capsys.readouterr().out
    assert report("t", MACHINE, *table, [at_least("bad", 2.0, 25)], {"question": "q"}, True) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["machine"]["commit"] == "abc" and document["question"] == "q" and document["rows"] == [["a", "1"]]
    assert document["checks"] == [{"what": "bad", "value": 2.0, "ok": False, "target": "≥ 25"}]


def test_targets_include_their_bound():
    assert at_most("x", 1.15, 1.15).ok and not at_most("x", 1.16, 1.15).ok
    assert at_least("x", 25, 25).ok and not at_least("x", 24.9, 25).ok
    assert reported("x", 1) == Check("x", 1, True, "")


def test_quick_sets_defaults_and_given_options_win():
    def parse(*arguments):
        parser = Arguments("Doc.", runs=7, quick={"size": 3})
        parser.add_argument("--size", type=int, default=100)
        options = parser.parse_args(arguments)
        return options.runs, options.size

    assert parse() == (7, 100) and parse("--quick") == (1, 3)
    assert parse("--quick", "--runs", "2") == (2, 3) and parse("--size", "9", "--quick") == (1, 9)


def test_subjects_are_the_five_of_the_issue():
    assert [subject.letter for subject in SUBJECTS.values()] == ["a", "b", "c", "d", "e"]


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_small_backlog_of_every_subject():
    """Each subject passes the whole backlog (cpu_per_packet raises otherwise) and cleans up after itself."""
    affinity = os.sched_getaffinity(0)
    try:
        with Bench() as bench:
            for name in ("bare", "nfqfw", "netfilterqueue", "scapy"):
                begun = time.monotonic()
                assert 0.3 < cpu_per_packet(bench, name, True, 640) < 1000
                assert time.monotonic() - begun < 30
                assert bench.lab.firewall.run(["nft", "list", "table", "inet", "nfqfw"]).returncode != 0
    finally:
        os.sched_setaffinity(0, affinity)
