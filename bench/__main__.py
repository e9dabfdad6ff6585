"""python -m bench: every question in turn, its answer printed and kept as JSON; then plots and tables of all answers.

    python -m bench                             all questions -> bench/results/*.json, *.svg, README.md and the README's figures
    python -m bench --quick                     all of them, small: do they work?  Into a folder of its own; the figures mean little
    python -m bench --only rules growth         some of them; --skip: all but some
    python -m bench --runs 3                    all of them, medians of 3 runs each
    python -m bench QUESTION [OPTIONS]          one, printed only; --help shows its options
    python -m bench report                      plots and tables anew from bench/results/*.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import report
from bench.result import ROOT, show

SHARED = {"__init__", "__main__", "burst", "harness", "path", "report", "result", "rulesets", "subjects", "svg", "wire"}
QUESTIONS = sorted((path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in SHARED),
                   key=lambda name: (report.ORDER.index(name) if name in report.ORDER else len(report.ORDER), name))
LIMIT_SECONDS = 600             # of one question
END_SECONDS = 20                # to take its lab down


def question_of(name: str) -> str:
    """First line of a benchmark's docstring: what it asks."""
    return (Path(__file__).parent / f"{name}.py").read_text().split('"""')[1].splitlines()[0]


def answer(name: str, options: list[str]) -> dict | None:
    """The document of a question, asked in a process of its own; None if it failed or took too long."""
    argv = [sys.executable, "-m", f"bench.{name}", "--json", *options]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            out, _ = process.communicate(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)          # its lab goes with it
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=END_SECONDS)
            process.kill()
            print(f"{name}: no answer within {LIMIT_SECONDS} s", file=sys.stderr)
            return None
    try:
        return json.loads(out)
    except ValueError:
        print(f"{name}: no answer (exit {process.returncode})", file=sys.stderr)
        return None


def ask_all(names: list[str], options: list[str], folder: Path) -> list[str]:
    """Ask (options: of every question), print and keep; returns the questions that failed or missed a target."""
    wrong = []
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, 1):
        print(f"\n==== {number}/{len(names)} {name}: {question_of(name)}\n", flush=True)
        begun = time.monotonic()
        document = answer(name, options)
        if document is None:
            wrong.append(name)
            continue
        (folder / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
        show(document)
        if not all(check["ok"] for check in document["checks"]):
            wrong.append(name)
        print(f"\n({time.monotonic() - begun:.0f} s)", flush=True)
    return wrong


def everything(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="\n".join(["questions:", *(f"  {name:12} {question_of(name)}" for name in QUESTIONS)]))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int, help="of every question, instead of its own number")
    parser.add_argument("--only", nargs="*", choices=QUESTIONS, default=QUESTIONS, metavar="QUESTION")
    parser.add_argument("--skip", nargs="*", choices=QUESTIONS, default=[], metavar="QUESTION")
    parser.add_argument("--results", type=Path, help="folder for the JSON files (default: bench/results; --quick: a new one)")
    options = parser.parse_args(arguments)
    folder = options.results or (Path(tempfile.mkdtemp(prefix="nfqfw-bench-")) if options.quick else report.RESULTS)
    begun = time.monotonic()
    shared = [*(["--quick"] if options.quick else []), *(["--runs", str(options.runs)] if options.runs else [])]
    wrong = ask_all([name for name in options.only if name not in options.skip], shared, folder)
    report.write(folder, report.README if folder.resolve() == report.RESULTS else None)
    print(f"\n{time.monotonic() - begun:.0f} s; answers in {folder}" + (f"; failed or missed a target: {', '.join(wrong)}" if wrong else ""))
    return 1 if wrong else 0


def main() -> int:
    if sys.argv[1:2] == ["report"]:
        return report.main(sys.argv[2:])
    if sys.argv[1:] and sys.argv[1] in QUESTIONS:
        name, sys.argv = sys.argv[1], [f"bench.{sys.argv[1]}", *sys.argv[2:]]
        runpy.run_module(f"bench.{name}", run_name="__main__", alter_sys=True)
        return 0
    return everything(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
