"""What may stand in the firewall of the lab: the kernel's own iptables, or `nfqfw run`.  One interface, so that a test of
nfqfw is first a test of itself: what it expects must be what the kernel does.

    with make("kernel", lab.firewall, tmp_path) as firewall:
        firewall.load(RULES4, RULES6)
        ...
        counters = firewall.stop()

Counters are {(family, table, chain, position from 1, or 0 for the policy): (packets, bytes)}.
"""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
START_SECONDS, STOP_SECONDS = 20, 20
READY = "nfqfw: filtering"
EMPTY = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"

Counters = dict[tuple[int, str, str, int], tuple[int, int]]


class KernelFirewall:
    """iptables-legacy, the oracle."""

    PROGRAMS = {4: "iptables-legacy", 6: "ip6tables-legacy"}

    def __init__(self, host, directory: Path):
        self.host = host
        self._environment = os.environ | {"XTABLES_LOCKFILE": str(directory / "xtables.lock")}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for program in self.PROGRAMS.values():
            self._run(f"{program}-restore", EMPTY)

    def load(self, rules4: str, rules6: str = EMPTY) -> None:
        for program, rules in zip(self.PROGRAMS.values(), (rules4, rules6)):
            self._run(f"{program}-restore", rules)

    def stop(self) -> Counters:
        found: Counters = {}
        for family, program in self.PROGRAMS.items():
            found |= parse_save(self._run(f"{program}-save", None, "-c"), family)
        return found

    def _run(self, program: str, text: str | None, *options: str) -> str:
        return self.host.run([program, *options], input=text, check=True, env=self._environment).stdout


def parse_save(text: str, family: int) -> Counters:
    """iptables-save -c."""
    found: Counters = {}
    table, positions = "", {}
    for line in text.splitlines():
        if line.startswith("*"):
            table, positions = line[1:], {}
        elif match := re.match(r":(\S+) (?:ACCEPT|DROP) \[(\d+):(\d+)\]", line):
            found[family, table, match[1], 0] = int(match[2]), int(match[3])
        elif match := re.match(r"\[(\d+):(\d+)\] -A (\S+)", line):
            position = positions[match[3]] = positions.get(match[3], 0) + 1
            found[family, table, match[3], position] = int(match[1]), int(match[2])
    return found


class NfqfwFirewall:
    """`nfqfw run` as a user starts it."""

    def __init__(self, host, directory: Path, *options: str, python: tuple[str, ...] = ("-m", "nfqfw")):
        self.host = host
        self.directory = directory
        self.options = options
        self.python = python            # how the interpreter starts nfqfw
        self.process: subprocess.Popen | None = None
        self._errors = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Whatever state it is in: no process, no table."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout) if self.process else ():
            stream.close()
        self.host.run(["nft", "delete", "table", "inet", "nfqfw"])

    def load(self, rules4: str, rules6: str = EMPTY) -> None:
        """Start it with these rules and wait until it filters.  Raises AssertionError with what it said."""
        files = []
        for family, rules in ((4, rules4), (6, rules6)):
            files.append(self.directory / f"rules.v{family}")
            files[-1].write_text(rules)
        self.start(files)

    def start(self, files: list[Path]) -> None:
        argv = [sys.executable, *self.python, "run", str(files[0]), "--rules6", str(files[1]), "--json", *self.options]
        said = self.directory / "stderr"
        with open(said, "w") as errors:
            self.process = self.host.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT,
                                           env=os.environ | {"PYTHONPATH": str(ROOT)})
        deadline = time.monotonic() + START_SECONDS
        while READY not in said.read_text():
            assert self.process.poll() is None and time.monotonic() < deadline, f"nfqfw run did not start: {said.read_text()}"
            time.sleep(0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> Counters:
        """End it as Ctrl-C does; the counters it printed."""
        return self.counters(self.totals())

    def totals(self) -> dict:
        self.process.send_signal(signal.SIGINT)
        out, _ = self.process.communicate(timeout=STOP_SECONDS)
        said = (self.directory / "stderr").read_text()
        assert self.process.returncode == 0, said
        assert "Traceback" not in said, said
        return json.loads(out)

    @staticmethod
    def counters(totals: dict) -> Counters:
        return {(row["family"], row["table"], row["chain"], row.get("position", 0)): (row["packets"], row["bytes"]) for row in totals["rules"]}

    def answer(self, line: str, seconds: float = 20) -> str:
        """Write a line to its stdin, read one of its stdout: for tests that start it inside a script of their own."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert select.select([self.process.stdout], [], [], seconds)[0], "no answer"
        return self.process.stdout.readline().strip()


RUN_OPTIONS = {                 # kind: options of `nfqfw run`
    "nfnetlink": (),
    "exact": ("--exact",),
    "three queues": ("--queues", "3", "--exact"),
    "netfilterqueue": ("--transport", "netfilterqueue"),
}
KINDS = ("kernel", *RUN_OPTIONS)


def make(kind: str, host, directory: Path):
    """A firewall of KINDS in this host; its files go to the directory."""
    if kind == "kernel":
        return KernelFirewall(host, directory)
    return NfqfwFirewall(host, directory, *RUN_OPTIONS[kind])
