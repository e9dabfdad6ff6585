"""How long do the applets take, process start to end, beside iptables-legacy?

    python -m bench commands [--sizes 1000,10000,100000] [--runs 10] [--quick] [--json]

Restore of save-form rules, one -A and its -D, save, and a listing of one chain, on rulesets of each size: ours through the shims on a live
daemon (`live`) and on a saved ruleset (`state file`: NFQFW_STATE, read and written whole by every command), the tool's in a namespace of
its own.  The contenders take turns, so that what disturbs a round disturbs all.  Wall time; restore goes into an empty table.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.result import Arguments, Axis, Check, Figure, Machine, Plot, at_most, numbers, ratio, report, reported

ROOT = Path(__file__).parent.parent
ADDED = ("INPUT", "-s", "192.0.2.1", "-j", "DROP")
COMMANDS: tuple[tuple[str, str, tuple[str, ...]], ...] = (       # name, program, arguments
    ("restore", "iptables-restore", ()),
    ("-A", "iptables", ("-A", *ADDED)),
    ("-D", "iptables", ("-D", *ADDED)),
    ("save", "iptables-save", ()),
    ("save -c", "iptables-save", ("-c",)),
    ("-nL chain", "iptables", ("-nL", "c1")),
)
SMALL = (("-A", "iptables", ("-A", *ADDED)), ("-D", "iptables", ("-D", *ADDED)), ("-nL", "iptables", ("-nL",)))
LARGE = 100_000                     # rules from which the targets are ratios
TARGETS = {"restore": 1.5, "save": 0.6}                 # seconds at LARGE
APPLET_SECONDS = {"live": 0.060, "state file": 0.150}   # of a command on an empty ruleset
MORE_SECONDS = 0.060                # than legacy, below LARGE


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


class Namespace:
    """An empty network namespace, held by a process that the kernel kills when we die."""

    def __init__(self) -> None:
        self.holder = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "-n", "sleep", "3600"])
        mine = os.stat("/proc/self/ns/net").st_ino
        while os.stat(f"/proc/{self.holder.pid}/ns/net").st_ino == mine:
            time.sleep(0.005)
        self.prefix = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]

    def close(self) -> None:
        self.holder.kill()
        self.holder.wait()


class Contender:
    """One way to run the programs.  `program(name)` gives the words in front of the arguments."""

    def __init__(self, name: str, prefix: list[str], program: Callable[[str], str], env: dict[str, str]) -> None:
        self.name, self.prefix, self.program, self.env = name, prefix, program, env
        self.seconds: dict[str, list[float]] = {}

    def run(self, label: str, name: str, arguments: tuple[str, ...], stdin: Path | None = None) -> None:
        with open(stdin or os.devnull, "rb") as source:
            begin = time.perf_counter()
            done = subprocess.run([*self.prefix, self.program(name), *arguments], env=self.env, stdin=source, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE)
            seconds = time.perf_counter() - begin
        if done.returncode:
            raise SystemExit(f"{self.name}: {name} {' '.join(arguments)}: {done.stderr.decode()}")
        self.seconds.setdefault(label, []).append(seconds)


class Bench:
    """The contenders, and everything they need, in one folder that goes at the end."""

    def __init__(self) -> None:
        from nfqfw.daemon.shims import write_shims
        self.folder = Path(tempfile.mkdtemp(prefix="nfqfw-", dir="/tmp"))       # short: a socket's path has 107 bytes
        write_shims(str(self.folder / "shims"))
        env = {**os.environ, "PYTHONPATH": str(ROOT), "NFQFW_RUN_DIR": str(self.folder), "XTABLES_LOCKFILE": str(self.folder / "lock")}
        env.pop("NFQFW_STATE", None)
        shim = lambda name: str(self.folder / "shims" / name)
        self.namespaces = [Namespace()]
        self.contenders = [Contender("live", self.namespaces[0].prefix, shim, env),
                           Contender("state file", ["env"], shim, {**env, "NFQFW_STATE": str(self.folder / "state")})]
        if shutil.which("iptables-legacy"):
            self.namespaces.append(Namespace())
            self.contenders.append(Contender("legacy", self.namespaces[1].prefix, lambda name: name.replace("iptables", "iptables-legacy"), env))
        self.control([sys.executable, "-m", "nfqfw", "up", "-b"])

    def control(self, argv: list[str]) -> None:
        subprocess.run([*self.namespaces[0].prefix, *argv], env=self.contenders[0].env, check=True, stdout=subprocess.DEVNULL)

    def empty(self, contender: Contender) -> None:
        contender.run("", "iptables", ("-F",))
        contender.run("", "iptables", ("-X",))

    def measure(self, size: int, runs: int) -> dict[str, dict[str, list[float]]]:
        """Seconds by command and contender; size 0: an applet command by itself."""
        path = self.folder / "rules"
        path.write_text(ruleset(size))
        for contender in self.contenders:
            contender.seconds = {}
        for number in range(runs):
            for contender in self.contenders if size or not number else ():
                self.empty(contender)
            for label, name, arguments in COMMANDS if size else SMALL:
                for contender in self.contenders:
                    contender.run(label, name, arguments, path if label == "restore" else None)
        return {label: {contender.name: contender.seconds[label] for contender in self.contenders} for label, _, _ in (COMMANDS if size else SMALL)}

    def close(self) -> None:
        try:
            self.control([sys.executable, "-m", "nfqfw", "down"])
        finally:
            for namespace in self.namespaces:
                namespace.close()
            shutil.rmtree(self.folder, ignore_errors=True)


# ---- the answer -------------------------------------------------------------------------------------------------------

def checks(size: int, label: str, seconds: dict[str, list[float]]) -> Iterator[Check]:
    for name, values in seconds.items():
        if name == "legacy":
            continue
        median, what = Figure.of(values).median, f"{label}, {size:,} rules, {name}"
        if size == 0:
            yield at_most(f"{what}: ms", 1000 * median, 1000 * APPLET_SECONDS[name])
        elif size == LARGE and label in TARGETS and not (name == "state file" and label == "restore"):
            yield at_most(f"{what}: s", median, TARGETS[label])
        if "legacy" not in seconds or size == 0:
            continue
        times = ratio(values, seconds["legacy"])
        if name == "state file":
            yield reported(f"{what} / legacy", times)
        elif size >= LARGE:
            yield at_most(f"{what} / legacy", times, 2)
        else:
            yield at_most(f"{what}: ms more than legacy", 1000 * (median - Figure.of(seconds["legacy"]).median), 1000 * MORE_SECONDS)


def plots(figures: dict[int, dict[str, dict[str, list[float]]]]) -> list[Plot]:
    out = []
    for label in ("restore", "-A", "save"):
        series = {name: [Plot.point(size, figures[size][label][name]) for size in figures if size] for name in figures[max(figures)][label]}
        out.append(Plot(f"commands_{label.strip('-').lower()}", f"iptables {label}, start to end", Axis("rules", log=True), Axis("seconds", log=True), series))
    return out


def main() -> int:
    options = Arguments(__doc__, runs=10, quick={"runs": 1, "sizes": [1000]})
    options.add_argument("--sizes", type=numbers, default=[1000, 10_000, LARGE], help="rules, default 1000,10000,100000")
    options = options.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("needs root: makes network namespaces")
    machine, bench, figures = Machine.this(), Bench(), {}
    try:
        for size in (0, *options.sizes):
            figures[size] = bench.measure(size, options.runs)
    finally:
        bench.close()
    names = [contender.name for contender in bench.contenders]
    rows = [[f"{size:,}", label, *(Figure.of(seconds[name]).text(3) for name in names)]
            for size, commands in figures.items() for label, seconds in commands.items()]
    found = [check for size, commands in figures.items() for label, seconds in commands.items() for check in checks(size, label, seconds)]
    return report(f"Applet commands, wall seconds, process start to end; median (range) of {options.runs} runs", machine,
                  ["rules", "command", *names], rows, found, {"question": "commands", "runs": options.runs, "wall_s": figures}, options.json,
                  plots(figures))


if __name__ == "__main__":
    sys.exit(main())
