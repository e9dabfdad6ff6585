"""Runs the fuzzers of the engine in a build of their own (see build.py).

    python -m tests.fuzz.run storm  [--seconds N] [--seed S]    random stories, optimised build, no feedback
    python -m tests.fuzz.run asan   [--seconds N] [--seed S]    the same under AddressSanitizer and UBSan
    python -m tests.fuzz.run fuzzer [--seconds N]               libFuzzer: coverage-guided, under both sanitizers
    python -m tests.fuzz.run tests  [PYTEST ARGS]               the engine's tests under both sanitizers
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.fuzz.build import ROOT, build

CORPUS = ROOT / "tests/fuzz/corpus"
STORM = """
import json, sys
sys.path.insert(0, ".")
import nfqfw._fuzz_door as door
from tests.fuzz import setting
keep = setting.capsule(door)
stories, packets = door.storm({seed}, {count}, {seconds})
print(json.dumps({{"stories": stories, "packets": packets, "drops": door.counts()[2]["drops"]}}))
"""
SANITIZED = {"ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:abort_on_error=1",
             "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1", "PYTHONMALLOC": "malloc"}


def library(name: str) -> str:
    return subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()


def environment(kind: str) -> dict[str, str]:
    """For a process that loads the build of this kind: the sanitizers' runtime must come first."""
    if kind != "asan":
        return dict(os.environ)
    return {**os.environ, **SANITIZED, "LD_PRELOAD": f"{library('libasan.so')} {library('libubsan.so')}"}


def storm(kind: str, seed: int, seconds: int, count: int = 1 << 40) -> dict:
    """Random stories in the build `kind` ("plain", "asan"); raises CalledProcessError when an invariant or a sanitizer spoke."""
    place = build(kind)
    done = subprocess.run([sys.executable, "-c", STORM.format(seed=seed, seconds=seconds, count=count)], cwd=place,
                          env=environment(kind), capture_output=True, text=True, timeout=seconds + 120)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, "storm", done.stdout, done.stderr[-6000:])
    return json.loads(done.stdout)


def fuzzer(seconds: int) -> int:
    """libFuzzer on the engine; new inputs go to build/corpus, what breaks it to the folder it runs in."""
    place = build("fuzzer")
    grown = ROOT / "build/corpus"
    grown.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, **SANITIZED, "PYTHONHOME": sys.base_prefix, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.run([str(place / "fuzz_engine"), f"-max_total_time={seconds}", "-max_len=512", "-print_final_stats=1",
                           str(grown), *([str(CORPUS)] if CORPUS.exists() else [])], cwd=place, env=env).returncode


def sanitized_tests(arguments: list[str]) -> int:
    place = build("asan")
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-s",
                           *(arguments or ["tests/engine", "tests/fragments"])], cwd=place, env=environment("asan")).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("storm", "asan", "fuzzer", "tests"))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options, rest = parser.parse_known_args()
    if options.what == "fuzzer":
        return fuzzer(options.seconds)
    if options.what == "tests":
        return sanitized_tests(rest)
    print(storm("plain" if options.what == "storm" else "asan", options.seed, options.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
