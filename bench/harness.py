"""What the benchmarks share: the lab, the subject's process, traffic, statistics, and the table with machine and commit.

    client (CPU 0) ── eth0 firewall eth1 ── server          the subject is pinned to the last CPU, all else to the first

"CPU per packet" is user + system time of the subject's process by its CPU clock (nanoseconds), divided by packets.  The
kernel charges a process also for what its verdicts set off: the rest of the packet's way, the same for all subjects.  `cut_off`
keeps that small: the kernel's own iptables counts and drops measured packets in POSTROUTING, right behind the hook.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.subjects import NAT_SUBJECTS, SUBJECTS
from netns import Lab

ROOT = Path(__file__).parent.parent
PORT = 9000
PAYLOAD = b"18 bytes of data.."     # of a measured datagram; openings have another length
FLOWS = 16
START_SECONDS = 20              # scapy's import on a busy machine


class Machine(NamedTuple):
    cpu: str
    cpus: int
    kernel: str
    python: str
    load: str                   # 1-minute load when the run began: figures of a busy machine are worth less
    commit: str

    @classmethod
    def this(cls) -> Machine:
        cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                    if line.startswith("model name")), platform.processor())
        run = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10"],
                             capture_output=True, text=True)
        return cls(cpu, os.cpu_count() or 1, platform.release(), platform.python_version(),
                   f"{os.getloadavg()[0]:.1f}", run.stdout.strip() or "unknown")


class Running(NamedTuple):
    """A subject that has packets diverted to it."""

    name: str
    process: subprocess.Popen | None

    def cpu_ns(self) -> int:
        """User + system time so far, ns: the process's CPU clock (clock_getcpuclockid(3))."""
        return time.clock_gettime_ns((~self.process.pid << 3) | 2) if self.process else 0

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """SIGSTOP inside the block; what arrives meanwhile waits in the queue."""
        self.process.send_signal(signal.SIGSTOP)
        state = Path(f"/proc/{self.process.pid}/stat")
        while state.read_text().rsplit(")", 1)[1].split()[0] != "T":
            time.sleep(0.001)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


class Bench:
    """The lab and its traffic.  A context manager; the calling process is pinned to CPU 0."""

    def __init__(self):
        if os.geteuid() != 0:
            raise SystemExit("needs root: makes network namespaces")
        self.lab = Lab()
        self.subject_cpu = (os.cpu_count() or 1) - 1
        os.sched_setaffinity(0, {0})
        self.machine = Machine.this()
        self._sink = self.lab.server.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sink.bind((self.lab.server.address(), PORT))
        self._sink.settimeout(0.5)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_) -> None:
        self._sink.close()
        self.lab.close()

    @contextlib.contextmanager
    def running(self, name: str, queues: int = 1) -> Iterator[Running]:
        """A subject with packets diverted to it; pinned to the last CPU if it has one queue."""
        if (SUBJECTS | NAT_SUBJECTS)[name].start is None:
            yield Running(name, None)
            return
        process = self.lab.firewall.popen(
            [sys.executable, "-m", "bench.subjects", name, "--queues", str(queues),
             *(("--cpu", str(self.subject_cpu)) if queues == 1 else ())], cwd=ROOT, preexec_fn=self._all_cpus,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
            if not ready or process.stdout.readline() != "ready\n":
                process.kill()
                raise RuntimeError(f"{name} did not start: {process.communicate()[1]}")
            yield Running(name, process)
        finally:
            process.terminate()
            try:
                process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()

    @staticmethod
    def _all_cpus() -> None:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))

    # ---- traffic ------------------------------------------------------------------------------------------------------

    def add_addresses(self, count: int) -> list[str]:
        """More addresses of the client: the kernel balances queues by addresses."""
        addresses = [f"10.0.1.{100 + number}" for number in range(count)]
        self.lab.client.ip(*(f"addr add {address}/24 dev eth0" for address in addresses))
        return addresses

    def flows(self, answered: bool, sources: Sequence[str] = ("0.0.0.0",) * FLOWS) -> list[socket.socket]:
        """UDP sockets of the client, one per source; answered: the server has sent one datagram back (ESTABLISHED)."""
        out = []
        for source in sources:
            flow = self.lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM)
            flow.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 256 << 20)     # queued packets stay charged to it
            flow.setsockopt(socket.SOL_SOCKET, 32, 256 << 20)                   # SO_SNDBUFFORCE
            flow.bind((source, 0))
            flow.connect((self.lab.server.address(), PORT))
            flow.settimeout(0.5)
            flow.send(b"opening")
            if answered:
                self._answer(flow)
            out.append(flow)
        return out

    def _answer(self, flow: socket.socket) -> None:
        """Let the server answer this flow; what an earlier run left may be in the way, so the opening is repeated."""
        for _ in range(10):
            with contextlib.suppress(TimeoutError):
                while True:
                    data, sender = self._sink.recvfrom(2048)
                    if sender[1] == flow.getsockname()[1]:
                        self._sink.sendto(b"answer", sender)
                        flow.recv(100)
                        return
            flow.send(b"opening")
        raise RuntimeError("a flow was not answered")

    @contextlib.contextmanager
    def cut_off(self) -> Iterator[Callable[[], int]]:
        """Measured packets end in the firewall's POSTROUTING inside the block; gives a function that counts them."""
        rule = ["POSTROUTING", "-p", "udp", "-m", "length", "--length", str(28 + len(PAYLOAD)), "-j", "DROP"]

        def count() -> int:
            lines = self._iptables("-nvxL", "POSTROUTING").splitlines()
            return int(next(line for line in lines if "DROP" in line and "length" in line).split()[0])

        self._iptables("-A", *rule)
        try:
            yield count
        finally:
            self._iptables("-D", *rule)

    def _iptables(self, *arguments: str) -> str:
        with tempfile.TemporaryDirectory() as private:
            return self.lab.firewall.run(["iptables-legacy", "-t", "mangle", *arguments], check=True,
                                         env=dict(os.environ, XTABLES_LOCKFILE=f"{private}/lock")).stdout

    def delivered(self) -> int:
        """Packets that the server's interface has received."""
        with self.lab.server.entered(), open("/proc/thread-self/net/dev") as table:
            for line in table:
                name, _, fields = line.partition(":")
                if name.strip() == "eth0":
                    return int(fields.split()[1])
        raise RuntimeError("the server has no eth0")

    def waiting(self) -> tuple[int, int]:
        """(packets waiting in the subject's queues, packets the kernel dropped before them)."""
        with self.lab.firewall.entered(), open("/proc/thread-self/net/netfilter/nfnetlink_queue") as table:
            lines = [[int(field) for field in line.split()] for line in table]
        return sum(line[2] for line in lines), sum(line[5] + line[6] for line in lines)


# ---- figures ----------------------------------------------------------------------------------------------------------

class Figure(NamedTuple):
    """Median and range of repeated runs."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: list[float]) -> Figure:
        return cls(statistics.median(values), min(values), max(values), len(values))

    def text(self, digits: int = 2) -> str:
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f}–{self.high:,.{digits}f})"


def ratio(above: list[float], below: list[float]) -> float:
    """Median of the ratios of runs made side by side: what disturbs a round of runs disturbs both."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def report(title: str, machine: Machine, columns: list[str], rows: list[list[str]], checks: list[tuple[str, float, bool]],
           document: dict, as_json: bool) -> int:
    """Print a table (or the document as JSON); returns the exit code: 1 if a check failed."""
    if as_json:
        document |= {"machine": machine._asdict(),
                     "checks": [{"what": what, "value": value, "ok": ok} for what, value, ok in checks]}
        print(json.dumps(document, indent=1))
        return 0 if all(ok for _, _, ok in checks) else 1
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    print(title)
    print(f"{machine.cpu}, {machine.cpus} CPUs, Linux {machine.kernel}, Python {machine.python}, load {machine.load}, "
          f"commit {machine.commit}\n")
    for row in [columns, ["-" * width for width in widths], *rows]:
        print("  ".join(cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))).rstrip())
    print()
    for what, value, ok in checks:
        print(f"{'ok  ' if ok else 'MISS'} {what}: {value:.2f}")
    return 0 if all(ok for _, _, ok in checks) else 1
