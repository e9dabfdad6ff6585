"""Plots are sound SVG that says what the figures say; README and pictures are those of the results that are kept."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench import report, svg
from bench.__main__ import QUESTIONS, question_of
from bench.result import Axis, Plot, at_least, at_most
from bench.result import report as tell
from tests.bench.test_harness import MACHINE

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
LINES = Plot("cost", "Cost <of> rules", Axis("rules", log=True), Axis("µs", log=True),
             {"kernel": [(1, 3.0, 2.9, 3.3), (100, 5.0, 5.0, 5.1), (10_000, 250.0, 240.0, 260.0)], "nfqfw": [(1, 7.0, 6.9, 7.1), (10_000, 7.0, 6.9, 7.5)]},
             note="a note", mark=(10.0, "ten"))
BARS = Plot("bars", "Bars", Axis("Gbit/s"), Axis(""), {"p50": [("a", 2.0, 1.5, 2.5), ("nfqfw", 4.0, 4.0, 4.0)], "p99": [("a", 8.0, 7.0, 9.5)]}, "bars")


def as_json(plot: Plot) -> dict:
    return json.loads(json.dumps(plot._asdict() | {"x": plot.x._asdict(), "y": plot.y._asdict()}))


def drawn(plot: Plot) -> ElementTree.Element:
    return ElementTree.fromstring(svg.draw(as_json(plot)))


def test_lines_are_where_the_figures_are():
    root = drawn(LINES)
    words = [element.text for element in root.iter(f"{SVG}text")]
    assert {"Cost <of> rules", "rules (logarithmic)", "µs (logarithmic)", "kernel", "nfqfw", "10,000", "a note", "ten"} <= set(words)
    ours, kernel = (next(group for group in root.iter(f"{SVG}g") if group.get("class") == shade and group.find(f"{SVG}polyline") is not None)
                    for shade in ("s0", "s1"))             # nfqfw has the first colour
    places = [tuple(map(float, pair.split(","))) for pair in ours.find(f"{SVG}polyline").get("points").split()]
    assert len(places) == 2 and places[0][1] == places[1][1]                    # flat
    dots = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in kernel.iter(f"{SVG}circle")]
    assert dots[1][0] - dots[0][0] == pytest.approx(dots[2][0] - dots[1][0], abs=0.2)          # 1, 100, 10,000 on a logarithmic axis
    assert dots[0][1] > dots[1][1] > dots[2][1] and dots[0][1] > places[0][1] > dots[2][1]     # up is more


def test_bars_are_as_long_as_their_figures():
    bars = [element for element in drawn(BARS).iter(f"{SVG}rect") if element.get("class") == "bar" and float(element.get("width")) != 10]
    widths = [float(bar.get("width")) for bar in bars]
    assert widths[1] == pytest.approx(4 * widths[0], rel=0.01) and widths[2] == pytest.approx(2 * widths[0], rel=0.01)     # 2, 8; 4


@pytest.mark.parametrize("low, high, ticks", [(1, 100_000, [1, 10, 100, 1000, 10_000, 100_000]), (3, 30, [2, 5, 10, 20, 50]), (5, 5, [5, 10])])
def test_logarithmic_ticks(low, high, ticks):
    assert svg.log_ticks(low, high) == ticks


@pytest.mark.parametrize("high, ticks", [(4, [0, 1, 2, 3, 4]), (0.9, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (2500, [0, 500, 1000, 1500, 2000, 2500])])
def test_linear_ticks(high, ticks):
    assert svg.linear_ticks(high) == pytest.approx(ticks)


def written(tmp_path, capsys, checks, name="packets") -> None:
    tell("Title", MACHINE, ["", "x", "y"], [["a", "row | 1", "2"]], checks, {"question": name}, True, [LINES])
    (tmp_path / f"{name}.json").write_text(capsys.readouterr().out)


def test_a_folder_of_answers_becomes_text_and_pictures(tmp_path, capsys):
    written(tmp_path, capsys, [at_most("good", 1.1, 1.15), at_least("bad", 20, 25)])
    (tmp_path / "gone.svg").write_text("of a plot that no answer has any more")
    readme = tmp_path / "R.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write(tmp_path, readme)
    assert sorted(path.name for path in tmp_path.glob("*.svg")) == ["cost.svg"]
    everything = (tmp_path / "README.md").read_text()
    assert "| row \\| 1 | 2 |" in everything and "| bad | 20.00 | ≥ 25 | **not met** |" in everything and "![Cost <of> rules](cost.svg)" in everything
    text = readme.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\nMeasured on: c, 2 CPUs") and text.endswith(f"{report.END}\nafter\n")
    assert "| `packets` | good | 1.10 | ≤ 1.15 | met |" in text and "old" not in text


def test_many_figures_with_one_target_are_one_row(tmp_path, capsys):
    written(tmp_path, capsys, [at_most(f"set {i}: 100,000 rules / 1", 1 + i / 10, 1.15) for i in range(4)], "growth")
    assert report.targets(report.documents(tmp_path)) == [
        ["`growth`", "100,000 rules / 1 (4 figures)", "1.00 to 1.30", "≤ 1.15", "**2 of 4 not met**"]]


@pytest.mark.skipif(not report.documents(), reason="no results are kept")
def test_readme_and_pictures_are_those_of_the_results():
    """make readme writes them."""
    found = report.documents()
    assert report.in_readme(report.README.read_text(), found) == report.README.read_text()
    assert (report.RESULTS / "README.md").read_text() == report.everything(found)
    plots = {f"{plot['name']}.svg": plot for document in found for plot in document["plots"]}
    assert plots.keys() == {path.name for path in report.RESULTS.glob("*.svg")}
    for name, plot in plots.items():
        assert (report.RESULTS / name).read_text() == svg.draw(plot)


def test_the_readme_has_a_place_for_the_figures():
    assert re.search(re.escape(report.BEGIN) + ".*" + re.escape(report.END), report.README.read_text(), re.S)


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_asks_in_its_first_line(name):
    assert question_of(name).split("?")[0] and "?" in question_of(name)


def test_help_lists_the_questions():
    done = subprocess.run([sys.executable, "-m", "bench", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert all(f"  {name} " in done.stdout for name in QUESTIONS)


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_has_the_shared_options(name):
    """`python -m bench` gives each --json and --quick."""
    text = (ROOT / "bench" / f"{name}.py").read_text()
    assert "Arguments(" in text and "report(" in text
