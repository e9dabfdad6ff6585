"""python -m bench: every question in turn, with its defaults; `--json` and the other options of a question are its own."""

import runpy
import subprocess
import sys
from pathlib import Path

SHARED = {"__init__", "__main__", "burst", "harness", "path", "result", "rulesets", "subjects", "wire"}
QUESTIONS = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in SHARED)


def question_of(name: str) -> str:
    """First line of a benchmark's docstring: what it asks."""
    return (Path(__file__).parent / f"{name}.py").read_text().split('"""')[1].splitlines()[0]


def main() -> int:
    if sys.argv[1:] and sys.argv[1] in QUESTIONS:
        name, sys.argv = sys.argv[1], [f"bench.{sys.argv[1]}", *sys.argv[2:]]
        runpy.run_module(f"bench.{name}", run_name="__main__", alter_sys=True)
        return 0
    if sys.argv[1:]:
        print("usage: python -m bench [QUESTION [OPTIONS]]\n")
        for name in QUESTIONS:
            print(f"  {name:12} {question_of(name)}")
        return 0 if sys.argv[1] in ("-h", "--help") else 2
    failed = [name for name in QUESTIONS if subprocess.run([sys.executable, "-m", f"bench.{name}"]).returncode]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
