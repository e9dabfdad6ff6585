"""What the benchmarks share: the lab, the subject's process, and traffic.  Statistics and printing: result.py.

    client (CPU 0) ── eth0 firewall eth1 ── server          the subject is pinned to the last CPU, all else to the first

"CPU per packet" is user + system time of the subject's process by its CPU clock (nanoseconds), divided by packets.  The
kernel charges a process also for what its verdicts set off: the rest of the packet's way, the same for all subjects.  `cut_off`
keeps that small: the kernel's own iptables counts and drops measured packets in POSTROUTING, right behind the hook.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.result import (ROOT, Arguments, Axis, Check, Figure, Machine, Plot, at_least, at_most, numbers, ratio,  # noqa: F401: also from here
                          report, reported)
from bench.subjects import NAT_SUBJECTS, SUBJECTS
from netns import Lab

PORT = 9000
PAYLOAD = b"18 bytes of data.."     # of a measured datagram; openings have another length
FLOWS = 16
START_SECONDS = 20              # scapy's import on a busy machine
LOAD_SECONDS = 60               # more, for a ruleset of 100,000


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
    def running(self, name: str, queues: int = 1, rules: Path | None = None) -> Iterator[Running]:
        """A subject with packets diverted to it; pinned to the last CPU if it has one queue.  rules: for "nfqfw", its ruleset."""
        if (SUBJECTS | NAT_SUBJECTS)[name].start is None:
            yield Running(name, None)
            return
        process = self.lab.firewall.popen(
            [sys.executable, "-m", "bench.subjects", name, "--queues", str(queues),
             *(("--cpu", str(self.subject_cpu)) if queues == 1 else ()), *(("--rules", str(rules)) if rules else ())], cwd=ROOT, preexec_fn=self._all_cpus,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            ready, _, _ = select.select([process.stdout], [], [], START_SECONDS + (LOAD_SECONDS if rules else 0))
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
            flow.send(self._opening(flow))
            if answered:
                self._answer(flow)
            out.append(flow)
        return out

    @staticmethod
    def _opening(flow: socket.socket) -> bytes:
        """Names the flow; longer than a measured datagram."""
        return b"opening of %-24s" % "{}:{}".format(*flow.getsockname()).encode()

    def _answer(self, flow: socket.socket) -> None:
        """Let the server answer this flow; what an earlier run left may be in the way, so the opening is repeated."""
        opening = self._opening(flow)
        for _ in range(10):
            with contextlib.suppress(TimeoutError):
                while True:
                    data, sender = self._sink.recvfrom(2048)
                    if data == opening:         # not by its port, which NAT may have changed
                        self._sink.sendto(b"answer", sender)
                        flow.recv(100)
                        return
            flow.send(opening)
        raise RuntimeError("a flow was not answered")

    @contextlib.contextmanager
    def cut_off(self, payload: bytes = PAYLOAD) -> Iterator[Callable[[], int]]:
        """Measured packets (by their length) end in the firewall's POSTROUTING inside the block; gives a function that counts them."""
        rule = ["POSTROUTING", "-p", "udp", "-m", "length", "--length", str(28 + len(payload)), "-j", "DROP"]

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
