"""Runs the fuzzers in builds of their own (see build.py).

    python -m tests.fuzz.run storm  [--seconds N] [--seed S]            random stories for the engine, optimised build, no feedback
    python -m tests.fuzz.run asan   [--seconds N] [--seed S]            the same under AddressSanitizer and UBSan
    python -m tests.fuzz.run fuzzer [--target T,T] [--seconds N] [--seed S]   coverage-guided, under the sanitizers; N seconds each
    python -m tests.fuzz.run threads                                    several queue threads over one flow table, under ThreadSanitizer
    python -m tests.fuzz.run tests  [PYTEST ARGS]                       the tests of SUITE under both sanitizers

Targets: the doors of setting.py (C, libFuzzer) and those of readers.py (Python, atheris).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.fuzz.build import ROOT, build
from tests.fuzz.setting import DOORS

READERS = ("rules", "commands", "conntrack", "nfct", "netlink", "capture", "host", "control")       # readers.TARGETS, which imports the package
STORM = """
import json, sys
sys.path.insert(0, ".")
from tests.fuzz import setting
keep, door = setting.capsule("engine"), setting.door("engine")
stories, packets = door.storm({seed}, {count}, {seconds})
print(json.dumps({{"stories": stories, "packets": packets, "drops": door.counts()[2]["drops"]}}))
"""
SANITIZED = {"ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:abort_on_error=1",
             "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1", "PYTHONMALLOC": "malloc"}
SUITE = [f"tests/{room}" for room in ("test_doors.py", "engine", "fragments", "queue", "report", "conntrack", "nat", "rules", "ext", "oracle")]


def library(name: str) -> str:
    return subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()


def environment(kind: str) -> dict[str, str]:
    """For a process that loads the build of this kind: the sanitizers' runtime must come first."""
    if kind != "asan":
        return dict(os.environ)
    return {**os.environ, **SANITIZED, "LD_PRELOAD": f"{library('libasan.so')} {library('libubsan.so')}"}


def storm(kind: str, seed: int, seconds: int, count: int = 1 << 40) -> dict:
    """Random stories in the build `kind` ("plain", "asan"); raises CalledProcessError when an invariant or a sanitizer spoke."""
    return json.loads(inside(kind, ["-c", STORM.format(seed=seed, seconds=seconds, count=count)], seconds + 120))


def inside(kind: str, arguments: list[str], seconds: int) -> str:
    """What Python prints in the build `kind`; raises CalledProcessError with the end of its standard error."""
    place = build(kind)
    done = subprocess.run([sys.executable, *arguments], cwd=place, env=environment(kind), capture_output=True, text=True, timeout=seconds)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, arguments, done.stdout, done.stderr[-6000:])
    return done.stdout


def fuzzer(targets: list[str], seconds: int, seed: int) -> int:
    """Each target for so many seconds.  New inputs go to build/corpus/TARGET, what breaks it to build/findings."""
    place = build("fuzzer")
    (ROOT / "build/findings").mkdir(exist_ok=True)
    for target in targets:
        grown = ROOT / "build/corpus" / target
        grown.mkdir(parents=True, exist_ok=True)
        words = write_seeds(target, grown)
        options = [f"-max_total_time={seconds}", f"-seed={seed}", "-print_final_stats=1", "-timeout=60", "-rss_limit_mb=6000",
                   f"-artifact_prefix={ROOT}/build/findings/{target}-", *words, str(grown)]
        print(f"{target}: {seconds} s, seed {seed}", flush=True)
        code = (compiled if target in DOORS else instrumented)(target, place, options)
        if code:
            print(f"{target}: a finding, see build/findings and the lines above")
            return code
    return 0


def write_seeds(target: str, folder: Path) -> list[str]:
    """The target's seeds as files; libFuzzer's options for its dictionary and the length of inputs."""
    from tests.fuzz import setting
    from tests.fuzz.readers import TARGETS
    if target in DOORS:
        seeds, words, longest = (setting.stories if target == "engine" else setting.datagrams)(), [], 512
    else:
        seeds, words, longest = TARGETS[target].seeds(), TARGETS[target].words(), TARGETS[target].longest
    for number, seed in enumerate(seeds):
        (folder / f"seed{number}").write_bytes(seed)
    dictionary = folder.with_suffix(".words")
    dictionary.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in words))
    return [f"-max_len={longest}", *([f"-dict={dictionary}"] if words else [])]


def compiled(target: str, place: Path, options: list[str]) -> int:
    """libFuzzer's own program with Python inside, see driver.c."""
    env = {**os.environ, **SANITIZED, "NFQFW_FUZZ_DOOR": target, "PYTHONHOME": sys.base_prefix, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.run([str(place / "fuzz_engine"), *options], cwd=place, env=env).returncode


def instrumented(target: str, place: Path, options: list[str]) -> int:
    """Python under atheris, with its AddressSanitizer before everything else."""
    try:
        import atheris                                      # late: the extra `fuzz`
    except ImportError:
        sys.exit("the readers' fuzzers need atheris: .venv/bin/python -m pip install -e '.[fuzz]'")
    env = {**os.environ, **SANITIZED, "LD_PRELOAD": os.path.join(atheris.path(), "asan_with_fuzzer.so")}
    return subprocess.run([sys.executable, "-m", "tests.fuzz.coverage", target, *options], cwd=place, env=env).returncode


def sanitized_tests(arguments: list[str]) -> int:
    place = build("asan")
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-s", *(arguments or SUITE)],
                          cwd=place, env=environment("asan")).returncode


def threads() -> int:
    """tests/engine/test_threads.py under TSan; address randomisation off, which it cannot bear on every kernel."""
    place = build("thread")
    env = {**os.environ, "LD_PRELOAD": library("libtsan.so"),
           "TSAN_OPTIONS": f"halt_on_error=0:exitcode=66:history_size=7:suppressions={place / 'tests/fuzz/tsan.supp'}"}
    return subprocess.run(["setarch", "-R", sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "--timeout=600",
                           "tests/engine/test_threads.py"], cwd=place, env=env).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("storm", "asan", "fuzzer", "tests", "threads"))
    parser.add_argument("--target", default=",".join((*DOORS, *READERS)), help="with fuzzer: comma-separated (default: all)")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options, rest = parser.parse_known_args()
    if options.what == "fuzzer":
        targets = options.target.split(",")
        if unknown := set(targets) - {*DOORS, *READERS}:
            parser.error(f"no such target: {', '.join(sorted(unknown))}")
        return fuzzer(targets, options.seconds, options.seed)
    if options.what == "threads":
        return threads()
    if options.what == "tests":
        return sanitized_tests(rest)
    print(storm("plain" if options.what == "storm" else "asan", options.seed, options.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
