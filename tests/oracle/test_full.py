"""Many cases in parts: what is done is not done again, another build is, and the summary adds up."""

import pytest

from nfqfw.selftest import full, lanes
from nfqfw.selftest import kernel as twin
from nfqfw.selftest.generate import active_features
from tests.oracle.recording import UNSUPPORTED


def test_parts_cover_every_seed_once():
    parts = full.parts_of(2_000_000, 100_001, 4000)
    assert [seed for first, count in parts for seed in range(first, first + count)] == list(range(2_000_000, 2_100_001))
    assert len(parts) == 26


def test_a_part_of_another_build_is_not_taken(tmp_path):
    report = lanes.Report(cases=5, packets=50, different={7: ["x"]}, undecided={8: "draw"})
    full._write(tmp_path, 5, 5, "this", report)
    assert full._read(tmp_path, 5, 5, "this") == report
    assert full._read(tmp_path, 5, 5, "other") is None and full._read(tmp_path, 5, 6, "this") is None


def test_what_is_explained_is_counted_apart():
    report = lanes.Report(cases=5, different={7: ["x"], 8: ["y"]})
    report.set_aside({8: "README", 9: "README"})
    assert (report.different, report.explained) == ({7: ["x"]}, {8: "README"})
    assert report.summary().startswith("5 cases, 0 packets, 1 unexplained differences, 1 explained, 0 undecided")


@pytest.mark.netns
@pytest.mark.skipif(bool(twin.missing()), reason=f"kernel twin: {twin.missing()}")
def test_a_run_goes_on_where_one_ended(tmp_path):
    features, said = active_features(UNSUPPORTED), []
    first = full.run(tmp_path, 2_000_000, 20, 2, features, {}, said.append, size=10)
    whole = full.run(tmp_path, 2_000_000, 30, 1, features, {}, said.append, size=10)
    assert (first.cases, whole.cases) == (20, 30) and whole.packets > first.packets
    assert [line.partition(":")[0] for line in said[2:]] == ["2000000", "2000010", "2000020"]
    assert [line.endswith("done before") for line in said] == [False, False, True, True, False]
    assert whole.different == {}
