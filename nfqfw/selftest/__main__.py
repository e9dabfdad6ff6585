"""`python -m nfqfw.selftest record|check|live|full|queue|case|flow`: what `make oracle` calls."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from nfqfw.selftest import full, lanes, record
from nfqfw.selftest.generate import active_features, all_features, listed_as_explained, listed_as_unsupported
from nfqfw.selftest.matches import MATCHES
from nfqfw.selftest.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m nfqfw.selftest", description=__doc__)
    parser.add_argument("what", choices=("record", "check", "live", "full", "queue", "case", "flow"))
    parser.add_argument("files", nargs="*", type=Path, help="record, check: the recording; full: a folder for what is done; flow: .flow files")
    parser.add_argument("--seed", type=int, default=0, help="first seed (default 0)")
    parser.add_argument("--count", type=int, default=None, help="cases (default: record 20000, live 500, full 100000)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="full: parts at a time (default: one for each CPU)")
    parser.add_argument("--unsupported", type=Path, help="unsupported.toml: features to leave out, differences that are explained")
    parser.add_argument("--out", type=Path, help="case: a folder for the (smallest) case as a .flow and a rules file")
    parser.add_argument("--exact", action="store_true", help="queue: divert every hook")
    parser.add_argument("--whole", action="store_true", help="case: do not shrink")
    options = parser.parse_intermixed_args()
    return {"record": _record, "check": _check, "live": _live, "full": _full, "queue": _queue, "case": _case, "flow": _flow}[options.what](options)


def _features(options) -> frozenset[str]:
    if options.files and options.files[0].suffix == ".bin" and options.files[0].exists() and options.what != "record":
        return frozenset(record.read(options.files[0])[0]["features"])
    return active_features(options.unsupported)


def _record(options) -> int:
    """Record anew and say what changed."""
    path = options.files[0]
    print(f"leaves out: {len(listed_as_unsupported(options.unsupported))} features of unsupported.toml, and the rows that do not compile: "
          f"{sorted({*MATCHES, *TARGETS} - all_features())}")
    old = list(record.read(path)[1]) if path.exists() else []
    began = time.monotonic()
    lanes.record_kernel(path, options.seed, options.count or 20_000, _features(options))
    new = list(record.read(path)[1])
    changed = sum(a != b for a, b in zip(old, new, strict=False))
    print(f"{len(new)} cases in {time.monotonic() - began:.0f} s, {path.stat().st_size} bytes; "
          f"{changed} of {len(old)} answers differ from the recording before")
    return 0


def _print(report: lanes.Report, options) -> int:
    report.set_aside(listed_as_explained(options.unsupported))
    for seed, lines in list(report.different.items())[:50]:
        print(f"seed {seed}:", *lines[:6], sep="\n    ")
    for word, seeds in (("explained", report.explained), ("undecided", report.undecided)):
        for seed, why in sorted(seeds.items()):
            print(f"{word} {seed}: {why}")
    print(report.summary())
    return 1 if report.different else 0


def _check(options) -> int:
    return _print(lanes.check_recording(options.files[0], options.count), options)


def _live(options) -> int:
    return _print(lanes.both(range(options.seed, options.seed + (options.count or 500)), _features(options)), options)


def _full(options) -> int:
    """Many cases beside the kernel, in parts; what an earlier run of this build has done is not done again."""
    folder = options.files[0] if options.files else Path("build/oracle-full")
    known = listed_as_explained(options.unsupported)
    report = full.run(folder, options.seed, options.count or 100_000, options.jobs, _features(options), known,
                      lambda line: print(line, flush=True))
    return _print(report, options)


def _queue(options) -> int:
    """The kernel beside a live nfqfw whose packets come by NFQUEUE."""
    from nfqfw.selftest.live import LiveTwin

    seeds = range(options.seed, options.seed + (options.count or 250))
    return _print(lanes.both(seeds, _features(options), ours=LiveTwin(options.exact)), options)


def _case(options) -> int:
    print(lanes.show(options.seed, _features(options), not options.whole, options.out))
    return 0


def _flow(options) -> int:
    """Each file on both twins: what the human expects, and whether they are equal."""
    from nfqfw.selftest.flow import disappointments, read_flow
    from nfqfw.selftest.kernel import KernelTwin
    from nfqfw.selftest.ours import OurTwin
    from nfqfw.selftest.outcome import differences

    bad = 0
    with KernelTwin(classes=True) as kernel, OurTwin(classes=True) as ours:
        for case in [case for path in options.files for case in read_flow(path)]:
            theirs, mine = kernel.run(case, states=True), ours.run(case, states=True)
            lines = [f"kernel: {d}" for d in disappointments(case, theirs)] + [f"nfqfw:  {d}" for d in disappointments(case, mine)]
            lines += differences(theirs, mine)
            bad += bool(lines)
            print(case.name, "ok" if not lines else "", *lines, sep="\n    " if lines else " ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
