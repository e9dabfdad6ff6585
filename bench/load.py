"""How long until a ruleset is in force?  Text to a loaded engine, beside iptables-legacy-restore and iptables-nft-restore.

CPU seconds.  nfqfw: reading, whole-table checks, compilation (of it the index: what a compilation costs more than one without) and
loading, inside one process as the daemon does it.  The tools: user and system time of their process, with what the kernel
does for it, in a network namespace of its own.  At most 2 minutes.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench import rulesets
from bench.path import present
from bench.result import Arguments, Axis, Figure, Machine, Plot, at_most, numbers, ratio, report, reported

STEPS = ("read", "check", "compile", "index", "load")          # index is part of compile
TOOLS = {"legacy": "iptables-legacy-restore", "nft": "iptables-nft-restore"}
INDEX_SECONDS = 0.25            # of 100,000 rules, at most
NEVER = 1 << 30                 # rules from which a chain gets an index: none does


class Case(NamedTuple):
    label: str
    rules: int
    text: Callable[[], str]


def cases(sizes: list[int], services: int, prefixes: int) -> list[Case]:
    made = [Case(f"{kind}, {size:,} rules", size, lambda kind=kind, size=size: rulesets.classbench(kind, size).text())
            for size in sizes for kind in (("acl", "fw", "ipc") if size == max(sizes) else ("acl",))]
    made.append(Case(f"services, {services:,}", rulesets.kube(services).rules, lambda: rulesets.kube(services).text))
    made.append(Case(f"blocklist, {prefixes:,}", prefixes, lambda: rulesets.blocklist(prefixes).text()))
    return made


def ours(text: str) -> dict[str, float]:
    """CPU seconds of each step."""
    from nfqfw._engine import LoadedProgram
    from nfqfw.compile import compile_rulesets
    from nfqfw.rules import check, load

    spent, kept = {}, {}

    def step(name: str, do: Callable):
        begun = time.process_time()
        kept[name] = do()
        spent[name] = time.process_time() - begun

    gc.collect()
    step("read", lambda: load(text, "rules.v4", 2))
    ruleset = kept["read"]
    step("check", lambda: check(ruleset))
    step("compile", lambda: compile_rulesets([ruleset]))
    step("load", lambda: LoadedProgram(kept["compile"]))
    step("again", lambda: compile_rulesets([ruleset]))          # both find the rules lowered already
    step("without", lambda: compile_rulesets([ruleset], index_from=NEVER))
    spent["index"] = max(0.0, spent.pop("again") - spent.pop("without"))
    return spent


def theirs(tool: str, text: str) -> float:
    """CPU seconds of the tool's process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rules"
        path.write_text(text)
        process = subprocess.Popen(["unshare", "-n", tool, str(path)], stdout=subprocess.DEVNULL,
                                   env=dict(os.environ, XTABLES_LOCKFILE=f"{folder}/lock", PATH="/usr/sbin:/sbin:/usr/bin:/bin"))
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{tool} failed: exit {process.returncode}")
    return used.ru_utime + used.ru_stime


def total(spent: dict[str, float]) -> float:
    return sum(spent[name] for name in STEPS if name != "index")


def main() -> int:
    parser = Arguments(__doc__, runs=3, quick={"sizes": [1_000], "services": 50, "prefixes": 1_000})
    parser.add_argument("--sizes", type=numbers, default=[1_000, 10_000, 100_000])
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--prefixes", type=int, default=100_000)
    options = parser.parse_args()
    tools = [name for name, tool in TOOLS.items() if os.geteuid() == 0 and present(name)]
    machine, mine, others, wanted = Machine.this(), {}, {}, cases(options.sizes, options.services, options.prefixes)
    for case in wanted:
        text = case.text()
        mine[case.label], others[case.label] = [], {name: [] for name in tools}
        for _ in range(options.runs):
            mine[case.label].append(ours(text))
            for name in tools:
                others[case.label][name].append(theirs(TOOLS[name], text))
    return tell(machine, options, wanted, mine, others, tools)


def tell(machine: Machine, options, wanted: list[Case], mine: dict, others: dict, tools: list[str]) -> int:
    rows, checks = [], []
    for case in wanted:
        runs = mine[case.label]
        rows.append(["", case.label, *(f"{Figure.of([run[name] for run in runs]).median:.3f}" for name in STEPS),
                     Figure.of(list(map(total, runs))).text(3), *(Figure.of(others[case.label][name]).text(3) for name in tools)])
        if case.rules == 100_000 and case.label.startswith(("acl", "fw", "ipc")):
            checks.append(at_most(f"CPU seconds of the index: {case.label}", Figure.of([run["index"] for run in runs]).median, INDEX_SECONDS))
    for case in wanted:
        checks += [reported(f"{TOOLS[name]} / nfqfw: {case.label}", ratio(others[case.label][name], list(map(total, mine[case.label])))) for name in tools]
    series = {"nfqfw": [Plot.point(case.label, list(map(total, mine[case.label]))) for case in wanted],
              **{TOOLS[name]: [Plot.point(case.label, others[case.label][name]) for case in wanted] for name in tools}}
    plot = Plot("load", "Until a ruleset is in force", Axis("seconds of CPU", log=True), Axis(""), series, "bars")
    document = {"question": "load", "runs": options.runs, "nfqfw_s": mine, "tools_s": others}
    return report(f"From text to rules in force, CPU seconds; median (range) of {options.runs} runs", machine,
                  ["", "ruleset", *(f"of it {name}" if name == "index" else name for name in STEPS), "nfqfw", *(TOOLS[name] for name in tools)],
                  rows, checks, document, options.json, [plot])


if __name__ == "__main__":
    sys.exit(main())
