"""Runs a target of `readers` under atheris: coverage-guided, Python and the compiled scanner alike.  Started by run.py in build/fuzzer.

    python -m tests.fuzz.coverage TARGET [libFuzzer's options] [corpus folders]
"""

from __future__ import annotations

import sys


def main() -> None:
    import atheris                                          # late: the extra `fuzz` of pyproject.toml

    with atheris.instrument_imports(include=["nfqfw"], enable_loader_override=False):
        from tests.fuzz.readers import TARGETS

        target = TARGETS[sys.argv[1]]
        for seed in target.seeds():
            target.one(seed)                                # what is imported late is instrumented, too
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target.one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
