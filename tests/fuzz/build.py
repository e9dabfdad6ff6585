"""Builds a copy of the package with the fuzzers' door in it: plain, under gcc's sanitizers, or for libFuzzer.

    python -m tests.fuzz.build plain|asan|thread|fuzzer  ->  build/<kind>/ with everything in it, rebuilt only where sources changed
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.fuzz.setting import DOORS

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("nfqfw", "tests", "netns", "docs", "setup.py", "pyproject.toml", "README.md")
CLANG = ("clang-14", "clang")


def copy_tree(target: Path) -> None:
    """Bring the copy up to date; a file that did not change keeps its time, so it is not compiled again."""
    for part in PARTS:
        source = ROOT / part
        for path in ([source] if source.is_file() else sorted(source.rglob("*"))):
            if path.suffix in (".so", ".c") and path.name != "driver.c" or "__pycache__" in path.parts or path.is_dir():
                continue
            place = target / path.relative_to(ROOT)
            if not place.exists() or place.read_bytes() != path.read_bytes():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
    for place in target.glob("nfqfw/**/*.p*"):
        if not (ROOT / place.relative_to(target)).exists() and place.stem not in DOORS.values():
            place.unlink()
    for source, module in DOORS.items():
        door, text = target / f"nfqfw/{module}.pyx", (ROOT / f"tests/fuzz/{source}.pyx").read_text()
        if not door.exists() or door.read_text() != text:
            door.write_text(text)


def clang() -> str:
    for name in CLANG:
        if shutil.which(name):
            return name
    sys.exit("libFuzzer needs clang: apt-get install clang-14 libclang-rt-14-dev")


def environment(kind: str) -> dict[str, str]:
    env = dict(os.environ)
    if kind in ("asan", "thread"):
        env["NFQFW_SANITIZE"] = {"asan": "1", "thread": "thread"}[kind]
    if kind == "fuzzer":
        env |= {"NFQFW_SANITIZE": "fuzzer", "CC": clang(), "LDSHARED": f"{clang()} -shared"}
    return env


def build(kind: str) -> Path:
    """The folder of the finished copy.  Raises SystemExit with the compiler's last words."""
    target = ROOT / "build" / kind
    copy_tree(target)
    done = subprocess.run([sys.executable, "setup.py", "build_ext", "--inplace", "--parallel", "2"], cwd=target, env=environment(kind),
                          capture_output=True, text=True, timeout=900)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-4000:])
    if kind == "fuzzer":
        build_driver(target)
    return target


def build_driver(target: Path) -> None:
    include, libs = sysconfig.get_path("include"), sysconfig.get_config_var("LIBDIR")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    subprocess.run([clang(), "-g", "-O1", "-fsanitize=address,fuzzer", f"-I{include}", "tests/fuzz/driver.c", "-o", "fuzz_engine",
                    f"-L{libs}", f"-Wl,-rpath,{libs}", f"-l{version}", "-rdynamic"], cwd=target, check=True, timeout=300)


if __name__ == "__main__":
    print(build(sys.argv[1] if len(sys.argv) > 1 else "plain"))
