"""How much memory do rules and flows take?  Bytes per rule of the compiled Program and of a process that holds it; bytes per flow.

Each ruleset is loaded by a process of its own; its resident memory is taken after what a process with one rule has.  Rules as
objects (for -L, -S, explanations) are in it.  Flows: resident bytes of the flow table with its index when so many are known;
the kernel's entry is what its slab says.  About 40 s.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import rulesets
from bench.result import ROOT, Arguments, Axis, Machine, Plot, numbers, report, reported
from bench.subjects import program_of

SIZES = [1_000, 10_000, 100_000]
FLOWS = [10_000, 100_000, 1_000_000]
SETS = {
    "acl": lambda size: rulesets.classbench("acl", size).text(), "fw": lambda size: rulesets.classbench("fw", size).text(),
    "ipc": lambda size: rulesets.classbench("ipc", size).text(), "blocklist": lambda size: rulesets.blocklist(size).text(),
    "services": lambda size: rulesets.kube(max(1, size // 11)).text,
}
SLAB = re.compile(r"^nf_conntrack\s+\d+\s+\d+\s+(\d+)", re.M)


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(re.search(r"^Rss:\s+(\d+)", Path("/proc/self/smaps_rollup").read_text(), re.M)[1]) * 1024


def holding(path: str) -> dict:
    """In a process of its own: what the ruleset of a file takes.  The text is read before, and gone after."""
    from nfqfw._engine import LoadedProgram

    program_of(rulesets.classbench("acl", 1).text())        # imports
    before = resident()
    program = program_of(Path(path).read_text())
    loaded = LoadedProgram(program)
    size = resident() - before
    del loaded
    return {"rules": len(program.rules), "program": len(program.block), "resident": size}


def held_by(kind: str, size: int) -> dict:
    with tempfile.NamedTemporaryFile("w", suffix=".v4") as file:
        file.write(SETS[kind](size))
        file.flush()
        return apart("holding", file.name)


def flows(count: int) -> dict:
    """In a process of its own: what so many flows take."""
    from nfqfw._conntrack import ConntrackTable
    from nfqfw.conntrack import _drill

    before = resident()
    table = ConntrackTable(count + count // 16, max(count + count // 8, 4096))
    _drill.establish(table, count, 10**12)
    return {"flows": table.count, "resident": resident() - before}


def apart(function: str, *arguments) -> dict:
    """Call a function of this file in a process of its own."""
    code = f"import json; from bench import memory; print(json.dumps(memory.{function}(*{arguments!r})))"
    return json.loads(subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=120).stdout)


def kernel_entry() -> int | None:
    """Bytes of the kernel's connection entry; None where its slab does not say."""
    try:
        found = SLAB.search(Path("/proc/slabinfo").read_text())
    except OSError:
        return None
    return int(found[1]) if found else None


def main() -> int:
    parser = Arguments(__doc__, runs=1, quick={"sizes": [1_000], "flows": [10_000]})
    parser.add_argument("--sizes", type=numbers, default=SIZES, help="numbers of rules")
    parser.add_argument("--flows", type=numbers, default=FLOWS, help="numbers of flows")
    options = parser.parse_args()
    machine = Machine.this()
    held = {(kind, size): held_by(kind, size) for kind in SETS for size in options.sizes}
    known = {count: apart("flows", count) for count in options.flows}
    rows = [["", f"{kind}, {each['rules']:,} rules", f"{each['program'] / 1e6:.1f}", f"{each['program'] / each['rules']:,.0f}",
             f"{each['resident'] / 1e6:.1f}", f"{each['resident'] / each['rules']:,.0f}"] for (kind, _), each in held.items()]
    rows += [["", f"{count:,} flows", "-", "-", f"{each['resident'] / 1e6:.1f}", f"{each['resident'] / each['flows']:,.0f}"]
             for count, each in known.items()]
    most, entry = max(options.flows), kernel_entry()
    checks = [reported(f"bytes per flow, {most:,} flows", known[most]["resident"] / known[most]["flows"])]
    if entry:
        checks.append(reported("bytes of the kernel's entry, without its index and extensions", entry))
    plot = Plot("memory", "Memory of a loaded ruleset", Axis("rules", log=True), Axis("bytes per rule, resident"),
                {kind: [(each["rules"], *3 * (each["resident"] / each["rules"],)) for (of, _), each in held.items() if of == kind] for kind in SETS})
    document = {"question": "memory", "rulesets": {f"{kind}/{size}": each for (kind, size), each in held.items()}, "flows": known}
    return report("Memory of rules and flows", machine, ["", "what", "Program, MB", "bytes per rule", "resident, MB", "bytes per rule or flow"],
                  rows, checks, document, options.json, [plot])


if __name__ == "__main__":
    sys.exit(main())
