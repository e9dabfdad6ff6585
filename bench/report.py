"""The answers in bench/results/*.json as pictures and text: SVG plots, results/README.md, and the README's figures.

    python -m bench report [--results DIR]          the README only for bench/results
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from bench import svg
from bench.result import ROOT, machine_line

RESULTS = ROOT / "bench" / "results"
README = ROOT / "README.md"
BEGIN, END = "<!-- figures: written by make readme from bench/results -->", "<!-- end of figures -->"
SHOWN = ("packets", "rules_ports", "rules_addresses", "growth_misses", "services", "latency")     # plots that the README shows
ORDER = ("floor", "packets", "rules", "growth", "blocklist", "services", "tcp_bulk", "latency", "connections", "nat", "queues", "fragments",
         "engine", "classify", "conntrack", "memory", "load", "commands")
FIGURES = re.compile(r"[-≤≥ ]*([\d.,]|$)")
SUMMED_UP = 3                   # so many checks of a question with one target become one row of the README


def documents(folder: Path = RESULTS) -> list[dict]:
    """What the questions answered, in the order of the text."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    found = [document for document in found if "columns" in document]
    rank = {name: place for place, name in enumerate(ORDER)}
    return sorted(found, key=lambda document: (rank.get(document["question"], len(ORDER)), document["question"]))


def draw(found: list[dict], folder: Path) -> list[Path]:
    """Write every plot; plots that no document has any more go."""
    written = []
    for document in found:
        for plot in document["plots"]:
            path = folder / f"{plot['name']}.svg"
            path.write_text(svg.draw(plot))
            written.append(path)
    for path in set(folder.glob("*.svg")) - set(written):
        path.unlink()
    return written


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """Markdown; a first column without a heading is left out, columns of figures stand to the right."""
    skip = 0 if columns[0] else 1
    cells = [[cell.replace("|", "\\|") for cell in row[skip:]] for row in [columns, *rows]]
    sides = ["---:" if all(FIGURES.match(row[i]) for row in cells[1:]) else "---" for i in range(len(cells[0]))]
    return [f"| {' | '.join(row)} |" for row in (cells[0], sides, *cells[1:])]


def met(check: dict) -> str:
    return "" if not check["target"] else "met" if check["ok"] else "**not met**"


def figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) >= 100 else f"{value:.2f}"


def everything(found: list[dict]) -> str:
    """results/README.md: all tables, checks and plots."""
    out = ["# What was measured", "", "Written by `python -m bench report` from the JSON files beside it.  Each question is a file of `bench/`, whose",
           "first lines say what is measured and how.", ""]
    for document in found:
        out += [f"## {document['question']}", "", document["title"] + f".  {document['seconds']:.0f} s.", "", machine_line(document["machine"]), "",
                *table(document["columns"], document["rows"]), ""]
        if document["checks"]:
            rows = [[check["what"], figure(check["value"]), check["target"], met(check)] for check in document["checks"]]
            out += [*table(["ratio", "measured", "target", ""], rows), ""]
        out += [f"![{plot['title']}]({plot['name']}.svg)\n" for plot in document["plots"]]
    return "\n".join(out)


def targets(found: list[dict]) -> list[list[str]]:
    """Rows of the README's table: question, figure, measured, target, met."""
    rows = []
    for document in found:
        groups: dict[str, list[dict]] = {}
        for check in document["checks"]:
            if check["target"]:
                groups.setdefault(check["target"], []).append(check)
        for target, checks in groups.items():
            if len(checks) < SUMMED_UP:
                rows += [[f"`{document['question']}`", check["what"], figure(check["value"]), target, met(check)] for check in checks]
                continue
            values, failed = [check["value"] for check in checks], [check for check in checks if not check["ok"]]
            kinds = {check["what"].rsplit(": ", 1)[-1] for check in checks}
            what = f"{kinds.pop()} ({len(checks)} figures)" if len(kinds) == 1 else f"{len(checks)} figures"
            rows.append([f"`{document['question']}`", what, f"{figure(min(values))} to {figure(max(values))}", target,
                         "met" if not failed else f"**{len(failed)} of {len(checks)} not met**"])
    return rows


def section(found: list[dict]) -> str:
    """The README's figures, between BEGIN and END."""
    machines = list(dict.fromkeys(machine_line(document["machine"]) for document in found))
    first = found[0]["machine"]
    loads = [float(document["machine"]["load"]) for document in found]
    about = (f"{first['cpu']}, {first['cpus']} CPUs, Linux {first['kernel']}, Python {first['python']}, commit {first['commit']}, {first['date']} UTC, "
             f"load {min(loads):.1f} to {max(loads):.1f}" if len(machines) > 1 else machines[0])
    shown = {plot["name"]: plot["title"] for document in found for plot in document["plots"]}
    return "\n".join([f"Measured on: {about}.", "", *table(["question", "figure", "measured", "target", ""], targets(found)), "",
                      *(f"![{shown[name]}](bench/results/{name}.svg)\n" for name in SHOWN if name in shown)])


def in_readme(text: str, found: list[dict]) -> str:
    """The README with its figures brought up to date; as it is where there are no results."""
    if not found or BEGIN not in text:
        return text
    head, rest = text.split(BEGIN, 1)
    return f"{head}{BEGIN}\n{section(found)}\n{END}{rest.split(END, 1)[1]}"


def write(folder: Path = RESULTS, readme: Path | None = README) -> None:
    found = documents(folder)
    if not found:
        return
    draw(found, folder)
    (folder / "README.md").write_text(everything(found))
    if readme is not None:
        readme.write_text(in_readme(readme.read_text(), found))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench report", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    write(options.results, README if options.results.resolve() == RESULTS else None)
    print(f"{options.results}: {len(list(options.results.glob('*.svg')))} plots and README.md")
    return 0
