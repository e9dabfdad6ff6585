"""How long do rulesets take to read, check, change and print, beside iptables-legacy?

    python -m bench rules [--sizes 1000,10000,100000] [--runs 5] [--json]

Process start to end: iptables-restore, one iptables -A and iptables-save on a ruleset of each size; ours on a state file
(NFQFW_STATE: reads and writes the whole file each time), the tool's on a namespace of its own.  And inside one process, where a daemon
does it: CPU of load, of the whole-table checks and of save.
"""

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.harness import Machine
from nfqfw.rules import check, load, save

ROOT = Path(__file__).parent.parent


def ruleset(rules: int) -> str:
    """Save-form rules of six kinds in INPUT and ten user chains, as firewalls have them."""
    rng = random.Random(rules)
    out = ["*filter", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", *(f":c{i} - [0:0]" for i in range(10))]
    for i in range(rules):
        address = ".".join(str(rng.randrange(1, 224)) for _ in range(4))
        port = rng.randrange(65536)
        chain = f"c{i % 10}" if i % 3 else "INPUT"
        out.append(f"-A {chain} " + (
            f"-s {address}/32 -j DROP", f"-s {address}/32 -p tcp -m tcp --dport {port} -j ACCEPT",
            f"-d {address}/32 -i eth0 -p udp -m udp --dport {port} -m comment --comment \"rule {i}\" -j ACCEPT",
            f"-p tcp -m tcp --dport {port} -m conntrack --ctstate NEW -j ACCEPT",
            f"-s {address}/32 -p tcp -m multiport --dports {port % 1000},{1000 + port % 60000} -m conntrack --ctstate NEW -j ACCEPT",
            f"! -s {address}/32 -m limit --limit 5/min -j LOG --log-prefix \"drop {i % 50}: \"")[i % 6])
    return "\n".join(out) + "\nCOMMIT\n"


def in_process(text: str) -> dict[str, float]:
    """CPU seconds of one load, check and save."""
    out, begin = {}, time.process_time()
    rules = load(text, "bench", 2)
    for name, step in (("load", None), ("check", lambda: check(rules)), ("save", lambda: save(rules))):
        if step is not None:
            begin = time.process_time()
            step()
        out[name] = time.process_time() - begin
    return out


def seconds(command: list[str], env: dict[str, str], stdin: str = "") -> float:
    begin = time.perf_counter()
    subprocess.run(command, input=stdin, env=env, text=True, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


def ours(text: str, folder: Path) -> dict[str, float]:
    env = {**os.environ, "NFQFW_STATE": str(folder / "state"), "PYTHONPATH": str(ROOT)}
    base = [sys.executable, "-m", "nfqfw"]
    return {"restore": seconds([*base, "iptables-restore"], env, text), "append": seconds([*base, "iptables", "-A", "INPUT", "-j", "ACCEPT"], env),
            "save": seconds([*base, "iptables-save"], env)}


TIMED = """
t() { local b=$EPOCHREALTIME; "$@" > /dev/null || exit 9; local e=$EPOCHREALTIME; echo $(( ${e/./} - ${b/./} )); }
t iptables-legacy-restore "$1"; t iptables-legacy -A INPUT -j ACCEPT; t iptables-legacy-save
"""


def theirs(text: str, folder: Path) -> dict[str, float]:
    path = folder / "rules"
    path.write_text(text)
    env = {**os.environ, "XTABLES_LOCKFILE": str(folder / "lock")}
    out = subprocess.run(["unshare", "-n", "bash", "-c", TIMED, "bench", str(path)], env=env, capture_output=True, text=True, check=True).stdout
    return dict(zip(("restore", "append", "save"), (int(line) / 1e6 for line in out.split()), strict=True))


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with_tool = os.geteuid() == 0 and shutil.which("iptables-legacy") is not None
    machine, results = Machine.this(), []
    for size in map(int, options.sizes.split(",")):
        text = ruleset(size)
        with tempfile.TemporaryDirectory() as folder:
            runs = [(in_process(text), ours(text, Path(folder)), theirs(text, Path(folder)) if with_tool else None) for _ in range(options.runs)]
        results.append({"rules": size, "cpu": medians([run[0] for run in runs]), "ours": medians([run[1] for run in runs]),
                        "legacy": medians([run[2] for run in runs]) if with_tool else None})
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    if options.json:
        print(json.dumps({"machine": machine._asdict(), "results": results, "peak_mib": memory}))
        return 0
    print(f"rules: {machine.cpu}, {machine.cpus} CPUs, Linux {machine.kernel}, load {machine.load}, commit {machine.commit}; median of {options.runs}")
    print(f"{'rules':>8}  {'CPU of load':>11} {'check':>7} {'save':>7}   {'restore':>8} {'-A':>7} {'save':>7} s   (iptables-legacy)")
    for row in results:
        cpu, mine, tool = row["cpu"], row["ours"], row["legacy"]
        other = "  ".join(f"{tool[name]:.3f}" for name in ("restore", "append", "save")) if tool else "not here"
        print(f"{row['rules']:>8}  {cpu['load']:>11.3f} {cpu['check']:>7.3f} {cpu['save']:>7.3f}   "
              f"{mine['restore']:>8.3f} {mine['append']:>7.3f} {mine['save']:>7.3f}     {other}")
    print(f"peak memory of the process that loaded them: {memory} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
