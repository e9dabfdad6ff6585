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
    from nfqfw.compile import compile_rulesets
    from nfqfw.rules import check, load

    rulesets = []
    for family, name in ((2, "demo.v4"), (10, "demo.v6")):
        ruleset = load((RULES / name).read_text(), name, family)
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
    from nfqfw._conntrack import ConntrackTable
    from nfqfw._engine import Engine, LoadedProgram
    from nfqfw.daemon.worker import Worker, copy_range
    from nfqfw.host import Host

    program, host = demo_program(), Host.live()
    table, loaded = ConntrackTable(), LoadedProgram(program, queues)
    engines = [Engine(table, host.block, thread=number) for number in range(queues)]
    for engine in engines:
        engine.load(loaded)
    worker = Worker(engines, queue=QUEUE, copy_range=copy_range(program, host.largest_mtu()),
                    on_records=lambda number, records: None)
    worker.start(hooks())

    def stop():
        print(worker.stop(), file=sys.stderr)
        host.close()

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subject", choices=[name for name, subject in SUBJECTS.items() if subject.start])
    parser.add_argument("--cpu", type=int, help="pin to this CPU")
    parser.add_argument("--queues", type=int, default=1, help="queues, one thread each")
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    stop = SUBJECTS[options.subject].start(options.queues)
    gc.freeze()
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    stop()


if __name__ == "__main__":
    main()
