"""What one packet costs on its whole way through the firewall: the kernel's own firewalls and nfqfw, each in a lab of its own.

    client (CPU 0) ── firewall ── server        as many labs as there are contenders; all stand at once, so that runs alternate

A packet is sent, routed and judged inside the sender's system call: the sender's CPU time is the whole cost of a kernel
firewall.  With nfqfw the sender's time ends where the packet is queued; the subject's time (recv, judgement, verdict, the rest
of the way) comes on top.  Both are CPU clocks: what else runs on the machine is not in them.  The subject is measured by
draining a backlog that queued while it was stopped.  All measured packets end in the firewall's POSTROUTING, counted there.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.burst import Burst
from bench.harness import PAYLOAD, PORT, Bench, Running
from bench.rulesets import Header
from bench.wire import NO_CHECKSUM, UDP

STRAY = 20                      # packets of the kernel itself (neighbour discovery, MLD) that may wait among the backlog
DRAIN_SECONDS = 60
WARM = 2000                     # packets sent before: buffers, caches, page faults
KERNEL_SECONDS = 0.25           # of one run of a kernel firewall
KERNEL_PACKETS = (100, 20_000)  # least and most of such a run
LOAD_SECONDS = 120
SO_SNDBUFFORCE = 32             # <asm-generic/socket.h>


class Cost(NamedTuple):
    """µs of CPU per packet."""

    sender: float
    subject: float

    @property
    def whole(self) -> float:
        return self.sender + self.subject


# ---- traffic ----------------------------------------------------------------------------------------------------------

class Sockets:
    """Datagrams of a few flows by ordinary sockets, answered (ESTABLISHED) or never answered."""

    payload = PAYLOAD

    def __init__(self, bench: Bench, answered: bool):
        self.flows = bench.flows(answered)

    def prepare(self, count: int) -> Callable[[], None]:
        """What sends so many packets."""
        return lambda: send(self.flows, count)

    def close(self) -> None:
        for flow in self.flows:
            flow.close()


def send(flows: list[socket.socket], count: int) -> None:
    for i in range(0, count, len(flows)):
        for flow in flows[:count - i]:
            flow.send(PAYLOAD)


class Traffic:
    """Datagrams of the given headers, all with the measured payload, from a raw socket of the client."""

    def __init__(self, bench: Bench, headers: Iterator[Header], payload: bytes = PAYLOAD):
        self.payload = payload
        self._headers, self._host = headers, bench.lab.server.address()
        self._raw = bench.lab.client.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._raw.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 256 << 20)         # queued packets stay charged to it

    def prepare(self, count: int) -> Callable[[], None]:
        """What sends so many packets."""
        return Burst(self._raw, [datagram(header, self.payload) for header in itertools.islice(self._headers, count)], self._host)

    def close(self) -> None:
        self._raw.close()


class Fresh(Traffic):
    """Each datagram begins a new flow: headers of the quiet corner (rulesets.py) unless others are given, no two alike."""

    def __init__(self, bench: Bench, headers: Iterator[Header] | None = None):
        super().__init__(bench, headers or corner(bench))


class Known(Traffic):
    """Datagrams of flows that are known already (answered: ESTABLISHED)."""

    def __init__(self, bench: Bench, payload: bytes = PAYLOAD):
        self._sockets = Sockets(bench, True)
        ends = [(address(host), port) for host, port in (flow.getsockname() for flow in self._sockets.flows)]
        server = address(bench.lab.server.address())
        super().__init__(bench, itertools.cycle([Header(UDP, host, server, port, PORT) for host, port in ends]), payload)

    def close(self) -> None:
        super().close()
        self._sockets.close()


def datagram(header: Header, payload: bytes = PAYLOAD) -> bytes:
    """The kernel fills in the sum of the IP header; it routes by the address given to sendto, which is the lab's server."""
    return struct.pack("!BBHHHBBHII", 0x45, 0, 28 + len(payload), 0, 0, 64, UDP, 0, header.source, header.destination) + struct.pack(
        "!HHHH", header.sport, header.dport, 8 + len(payload), NO_CHECKSUM) + payload


def corner(bench: Bench) -> Iterator[Header]:
    """New flows from hosts of the client network to the server; a second of them would be 13 million packets away."""
    server, network = address(bench.lab.server.address()), address(bench.lab.client.address()) & ~0xFF
    for sport in itertools.cycle(range(1024, 65536)):
        for host in range(20, 220):
            yield Header(UDP, network + host, server, sport, PORT)


def address(text: str) -> int:
    return int.from_bytes(socket.inet_aton(text))


# ---- measuring --------------------------------------------------------------------------------------------------------

def drained(bench: Bench, subject: Running, traffic: Traffic | Sockets, backlog: int) -> Cost:
    """Queue a backlog while the subject is stopped, then let it drain; RuntimeError unless all of it was queued and passed."""
    with bench.cut_off(traffic.payload) as passed:
        traffic.prepare(WARM)()
        drain(bench)
        go = traffic.prepare(backlog)
        with subject.stopped():
            time.sleep(0.02)
            begun = time.thread_time_ns()
            go()
            sending = time.thread_time_ns() - begun
            waiting, lost = bench.waiting()
            if not backlog <= waiting <= backlog + STRAY or lost:
                raise RuntimeError(f"{subject.name}: {waiting} of {backlog} packets queued, {lost} dropped")
            before, count = subject.cpu_ns(), passed()
        drain(bench)
        used, count = subject.cpu_ns() - before, passed() - count
        if count != backlog:
            raise RuntimeError(f"{subject.name}: {count} of {backlog} packets passed")
    return Cost(sending / backlog / 1000, used / backlog / 1000)


def drain(bench: Bench) -> None:
    """Until nothing waits and the last verdicts have taken effect."""
    deadline = time.monotonic() + DRAIN_SECONDS
    quiet = 0
    while quiet < 3:
        if time.monotonic() > deadline:
            raise RuntimeError("the backlog was not drained")
        time.sleep(0.01)
        quiet = quiet + 1 if bench.waiting()[0] == 0 else 0


def judged_by_kernel(bench: Bench, traffic: Traffic | Sockets, seconds: float = KERNEL_SECONDS) -> Cost:
    """As many packets as about `seconds` take."""
    least, most = KERNEL_PACKETS
    with bench.cut_off(traffic.payload) as passed:
        once = timed(traffic.prepare(least)) / least
        count = int(max(least, min(most, seconds * 1e9 / once)))
        go, before = traffic.prepare(count), passed()
        spent = timed(go)
        if passed() - before != count:
            raise RuntimeError(f"{passed() - before} of {count} packets passed the kernel's firewall")
    return Cost(spent / count / 1000, 0.0)


def timed(go: Callable[[], None]) -> int:
    """ns of this thread's CPU time."""
    begun = time.thread_time_ns()
    go()
    return time.thread_time_ns() - begun


# ---- contenders -------------------------------------------------------------------------------------------------------

class Stand(NamedTuple):
    """A contender with its ruleset in place, in its lab."""

    bench: Bench
    subject: Running | None     # None: the kernel judges

    def cost(self, traffic: Traffic | Sockets, backlog: int) -> Cost:
        if self.subject is None:
            return judged_by_kernel(self.bench, traffic)
        return drained(self.bench, self.subject, traffic, backlog)


def command(bench: Bench, argv: Sequence[str], text: str) -> None:
    with tempfile.TemporaryDirectory() as private:
        run = bench.lab.firewall.run(argv, input=text, timeout=LOAD_SECONDS, env=dict(os.environ, XTABLES_LOCKFILE=f"{private}/lock"))
    if run.returncode:
        raise RuntimeError(f"{argv[0]}: {run.stderr.strip() or run.stdout.strip()}")


@contextlib.contextmanager
def standing(contender: str, text: str = "", after: str = "") -> Iterator[Stand]:
    """A lab with `text` loaded by "legacy", "nft", "ipset" (after: the iptables-legacy rules that ask the set), "nft_set" or "nfqfw".

    Also "none" (nothing at all) and "bare" (our loop that accepts everything).
    """
    with Bench() as bench, contextlib.ExitStack() as stack:
        bench.lab.firewall.ip(f"route add default via {bench.lab.server.address()}")
        subject = None
        match contender:
            case "legacy" | "nft":
                command(bench, [f"iptables-{contender}-restore"], text)
            case "ipset":
                command(bench, ["ipset", "restore"], text)
                command(bench, ["iptables-legacy-restore"], after)
            case "nft_set":
                command(bench, ["nft", "-f", "-"], text)
            case "bare":
                subject = stack.enter_context(bench.running("bare"))
            case "nfqfw":
                subject = stack.enter_context(running_rules(bench, text))
        yield Stand(bench, subject)


@contextlib.contextmanager
def running_rules(bench: Bench, text: str) -> Iterator[Running]:
    """nfqfw with this ruleset (IPv4)."""
    with tempfile.NamedTemporaryFile("w", suffix=".v4") as file:
        file.write(text)
        file.flush()
        with bench.running("nfqfw", rules=Path(file.name)) as subject:
            yield subject


LABELS = {"none": "no firewall", "bare": "bare accept-all loop", "legacy": "iptables-legacy", "nft": "iptables-nft", "ipset": "ipset",
          "nft_set": "nft set", "nfqfw": "nfqfw"}
TOOLS = {"legacy": "iptables-legacy-restore", "nft": "iptables-nft-restore", "ipset": "ipset", "nft_set": "nft"}


def present(contender: str) -> bool:
    """Its tool is installed."""
    tool = TOOLS.get(contender)
    return tool is None or any((Path(folder) / tool).exists() for folder in ("/usr/sbin", "/sbin", "/usr/bin"))
