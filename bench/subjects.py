"""The subjects of the benchmarks: what stands at the firewall's FORWARD hook.  Each runs as a process of its own.

    python -m bench.subjects NAME [--cpu N] [--queues N]      prints "ready" when packets are diverted to it; SIGTERM ends it cleanly

All are diverted by the same table (attach.py) at the hooks that nfqfw's attach plan gives for the demo ruleset, so that they
differ only in what reads the queue.  The two NetfilterQueue subjects get the longest queue and the same receive buffer.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

QUEUE = 7
RULES = Path(__file__).parent.parent / "nfqfw" / "data"
SCAPY_PORT = 22                 # what the scapy subject drops


class Subject(NamedTuple):
    letter: str                 # as in the issue that asks
    label: str
    start: Callable[[int], Callable[[], None]] | None  # of the number of queues; returns what ends it; None = nothing diverted


def hooks() -> frozenset[str]:
    """What the demo ruleset needs diverted."""
    from nfqfw.plan import attach_plan

    return attach_plan(demo_program())


def demo_program():
    return program_of((RULES / "demo.v4").read_text(), (RULES / "demo.v6").read_text())


def program_of(text4: str, text6: str = ""):
    """Program of iptables-save texts of the two families."""
    from nfqfw.compile import compile_rulesets
    from nfqfw.rules import check, load

    rulesets = []
    for family, text in ((2, text4), (10, text6)):
        if text:
            ruleset = load(text, f"rules.v{4 if family == 2 else 6}", family)
            check(ruleset)
            rulesets.append(ruleset)
    return compile_rulesets(rulesets)


def bare(queues: int) -> Callable[[], None]:
    """Our loop, accepting everything: the floor."""
    from nfqfw.daemon.worker import Worker
    from nfqfw.queue._accept_all import AcceptAll

    worker = Worker([AcceptAll() for _ in range(queues)], queue=QUEUE, copy_range=1500)
    worker.start(hooks())
    return worker.stop


def nfqfw(queues: int) -> Callable[[], None]:
    """The whole engine with the demo ruleset, as `nfqfw run` sets it up."""
    return run_program(demo_program(), queues)


def run_program(program, queues: int) -> Callable[[], None]:
    from nfqfw._conntrack import ConntrackTable
    from nfqfw._engine import LoadedProgram, engines
    from nfqfw.daemon.worker import Worker, copy_range
    from nfqfw.host import Host
    from nfqfw.plan import attach_plan

    host = Host.live()
    table, loaded = ConntrackTable(), LoadedProgram(program, queues)
    team = engines(table, host.block, queues)
    for engine in team:
        engine.load(loaded)
    worker = Worker(team, queue=QUEUE, copy_range=copy_range(program, host.largest_mtu()),
                    on_records=lambda number, records: None)
    worker.start(attach_plan(program))

    def stop():
        print(worker.stop(), file=sys.stderr)
        host.close()

    return stop


NAT_CLIENT, NAT_ADDRESS = "10.0.1.2", "10.0.2.1"        # of the lab: who is hidden, and behind which address
NAT_HOOKS = frozenset(("PREROUTING", "INPUT", "FORWARD", "OUTPUT"))
NAT_RULES = """*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -o eth1 -j MASQUERADE
COMMIT
"""


def nat_bare(queues: int) -> Callable[[], None]:
    """A loop that only rewrites and sums, at the hooks that NAT needs."""
    import socket

    from nfqfw.daemon.worker import Worker
    from nfqfw.queue._rewrite_all import RewriteAll

    ends = [socket.inet_aton(address) for address in (NAT_CLIENT, NAT_ADDRESS)]
    worker = Worker([RewriteAll(*ends) for _ in range(queues)], queue=QUEUE)
    worker.start(NAT_HOOKS)
    return worker.stop


def nat_nfqfw(queues: int) -> Callable[[], None]:
    """The whole engine with one MASQUERADE rule."""
    from nfqfw.compile import compile_rulesets
    from nfqfw.rules import load

    program = compile_rulesets([load(NAT_RULES, "nat.v4", 2)])
    return run_program(program, queues)


def nat_kernel(queues: int) -> Callable[[], None]:
    """The kernel's own MASQUERADE, by the real iptables."""
    import subprocess
    import tempfile

    lock = tempfile.NamedTemporaryFile(prefix="nfqfw-bench-")       # noqa: SIM115: closed by the end

    def restore(rules: str) -> None:
        subprocess.run(["/usr/sbin/iptables-legacy-restore"], input=rules, text=True, check=True,
                       env={"PATH": "/usr/sbin:/usr/bin", "XTABLES_LOCKFILE": lock.name})

    def stop() -> None:
        restore(NAT_RULES.replace("-A POSTROUTING -o eth1 -j MASQUERADE\n", ""))
        lock.close()

    restore(NAT_RULES)
    return stop


def package(decide: Callable) -> Callable[[int], Callable[[], None]]:
    """The NetfilterQueue package with a Python callback, as its documentation shows."""

    def start(queues: int):
        if queues != 1:
            raise SystemExit("the package's subjects read one queue")
        from netfilterqueue import NetfilterQueue

        from nfqfw import attach

        queue = NetfilterQueue()
        queue.bind(QUEUE, decide(), max_len=65535, sock_len=64 << 20)
        threading.Thread(target=queue.run, daemon=True).start()
        attachment = attach.attach(hooks(), QUEUE)
        return attachment.detach

    return start


def accept_callback() -> Callable:
    return lambda packet: packet.accept()


def scapy_callback() -> Callable:
    import logging

    logging.getLogger("scapy").setLevel(logging.ERROR)
    from scapy.layers.inet import IP, TCP, UDP

    def decide(packet):
        parsed = IP(packet.get_payload())
        transport = parsed.getlayer(TCP) or parsed.getlayer(UDP)
        if transport is not None and transport.dport == SCAPY_PORT:
            packet.drop()
        else:
            packet.accept()

    return decide


SUBJECTS = {
    "none": Subject("a", "no queue", None),
    "bare": Subject("b", "bare accept-all loop", bare),
    "nfqfw": Subject("c", "nfqfw, demo ruleset", nfqfw),
    "netfilterqueue": Subject("d", "NetfilterQueue + accept()", package(accept_callback)),
    "scapy": Subject("e", "NetfilterQueue + scapy, a port", package(scapy_callback)),
}

NAT_SUBJECTS = {                # of bench/nat.py
    "nat_kernel": Subject("a", "kernel MASQUERADE", nat_kernel),
    "nat_bare": Subject("b", "bare loop that rewrites", nat_bare),
    "nat_nfqfw": Subject("c", "nfqfw, MASQUERADE", nat_nfqfw),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subject", choices=[name for name, subject in (SUBJECTS | NAT_SUBJECTS).items() if subject.start])
    parser.add_argument("--cpu", type=int, help="pin to this CPU")
    parser.add_argument("--queues", type=int, default=1, help="queues, one thread each")
    parser.add_argument("--rules", type=Path, help="of nfqfw: an iptables-save file (IPv4), instead of the demo ruleset")
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    if options.rules:
        stop = run_program(program_of(options.rules.read_text()), options.queues)
    else:
        stop = (SUBJECTS | NAT_SUBJECTS)[options.subject].start(options.queues)
    gc.freeze()
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    stop()


if __name__ == "__main__":
    main()
