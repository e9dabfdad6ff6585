"""The twin that is a live nfqfw: the same router, whose packets the kernel diverts to a worker by NFQUEUE.

One evaluator, the daemon's own (nfqfw/daemon/evaluator.py), lives as long as the twin; each case is a swap of its ruleset, as
`iptables-restore` makes one.  `exact` diverts every hook, else the attach plan decides.  Nothing asks for the kernel's own
connection tracking, so the namespace has none.

When a packet has been dealt with: the queue thread sleeps, and the kernel has queued no packet that the thread has not read.
Thread and wires share one CPU, so that what a verdict causes has happened when its send returns.
"""

from __future__ import annotations

import itertools
import struct
import time
from dataclasses import replace

from nfqfw import attach
from nfqfw.conntrack import nfct
from nfqfw.daemon.evaluator import LiveEvaluator
from nfqfw.daemon.service import Options
from nfqfw.selftest.case import Case
from nfqfw.selftest.ours import connection_of, counters_of, program_of
from nfqfw.selftest.npt import without_quoted
from nfqfw.selftest.outcome import Connection, Emitted, Outcome, differences, fragment_header, joined6, normal_packet
from nfqfw.selftest.packets import IPV4, checksum
from nfqfw.selftest.router import Router

QUIET_SECONDS = 5
PAUSE = 0.0001
RESET_BYTES = 40


class LiveTwin(Router):
    """The router namespace with a running nfqfw.  A context manager; `run(case)` gives its Outcome."""

    def __init__(self, exact: bool = False) -> None:
        super().__init__()
        self.exact = exact
        self.generations = itertools.count(1)       # as a daemon counts: reporters know a ruleset by its number

    def _build(self) -> None:
        super()._build()
        self.evaluator = LiveEvaluator(Options(exact=self.exact), lambda kind, lines: None)

    def __exit__(self, *exc: object) -> None:
        with self.inside():
            self.evaluator.stop()
        super().__exit__(*exc)

    def run(self, case: Case) -> Outcome:
        """Load the case's rules, send its packets, read everything.  Raises if a queue thread has failed."""
        with self.inside():
            self._policies(case)
            self.evaluator.load(program_of(case, policies=self.evaluator.flows.policies, generation=next(self.generations)))
            self.log.drain()
            outcome = Outcome()
            for step in case.steps:
                if step.delay >= 0.001:
                    time.sleep(step.delay)
                self._step(case, step, outcome)
            outcome.steps = without_quoted(case, outcome.steps)
            outcome.counters = counters_of(self.evaluator.loaded)
            outcome.connections = self.connections()
            self.evaluator.flows.table.flush()
            if self.evaluator.check() is not None:
                raise RuntimeError(f"the queue thread ended: {self.evaluator.failure!r}")
            return outcome

    def _policies(self, case: Case) -> None:
        """Only this case's time-out policies: no rule names one when they go."""
        flows = self.evaluator.flows
        if flows.policies.list():
            self.evaluator.load(program_of(Case(case.family, "", []), generation=next(self.generations)))
            flows.nfct(["flush", "timeout"], ())
        nfct.load("\n".join(case.policies), case.name, flows.policies)

    def normal(self, outcome: Outcome) -> Outcome:
        """An Outcome of either twin without the one field that live may differ (README)."""
        return without_reset_ids(outcome)

    def differences(self, kernel: Outcome, ours: Outcome) -> list[str]:
        return differences(self.normal(kernel), self.normal(ours))

    def connections(self) -> list[Connection]:
        return sorted(connection_of(entry) for entry in self.evaluator.flows.table.list(now_ns=time.monotonic_ns()))

    def _marks(self, delivered: list) -> list[int]:
        """Fragments that were judged as one leave one by one: the mark of the first is that of the datagram."""
        return super()._marks([row for row in delivered if not is_later_fragment(row[3])])

    def _inputs(self, delivered: list, family: int) -> list[Emitted]:
        """IPv6 fragments, which the kernel's twin merges before this point, and here its stack merges behind it.

        One that is a whole datagram is left as it is by both.
        """
        out: list[Emitted] = []
        train: list[Emitted] = []
        for e in super()._inputs(delivered, family):
            if family == IPV4 or not fragment_header(e.data)[1]:
                out.append(e)
                continue
            train.append(e)
            if not e.data[fragment_header(e.data)[1] + 3] & 1:
                whole = e.data if len(train) == 1 else normal_packet(joined6([t.data for t in train]), family, False)
                out.append(e._replace(data=whole))
                train = []
        return out + train

    def _until_sentinel(self, family: int) -> list[Emitted]:
        """Frames heard while the packet was on its way through queue and kernel."""
        before = super()._until_sentinel(family)
        self._quiet()
        return before + super()._until_sentinel(family)

    def _quiet(self) -> None:
        """Wait until everything that was queued has its verdict, or is held, and what the verdicts caused too."""
        worker = self.evaluator.worker
        if worker is None:
            return
        deadline = time.monotonic() + QUIET_SECONDS
        while not self._asleep(worker):
            if time.monotonic() > deadline:
                raise RuntimeError("the queue thread does not come to rest")
            time.sleep(PAUSE)

    def _asleep(self, worker) -> bool:
        queue = worker._queues[0]               # noqa: SLF001: the figures of its statistics, without their cost
        if not queue.blocked:
            return False
        queued = attach.queue_owners()[self.evaluator.options.queue].id_sequence
        return queue.statistics()["packets"] == queued and queue.blocked


def is_later_fragment(data: bytes) -> bool:
    if data[0] >> 4 == 4:
        return bool(struct.unpack_from(">H", data, 6)[0] & 0x1fff)
    at = fragment_header(data)[1]
    return bool(at and struct.unpack_from(">H", data, at + 2)[0] & 0xfff8)


def without_reset_ids(outcome: Outcome) -> Outcome:
    """The IPv4 identification of RSTs zeroed: into a packet that is sent by a raw socket the kernel puts one of its own."""
    return replace(outcome, steps=[[e._replace(data=_without_id(e.data)) for e in step] for step in outcome.steps])


def _without_id(data: bytes) -> bytes:
    if len(data) != RESET_BYTES or data[0] != 0x45 or data[9] != 6 or not data[33] & 4:
        return data
    head = bytearray(data[:20])
    head[4:6] = head[10:12] = b"\0\0"
    struct.pack_into(">H", head, 10, checksum(bytes(head)))
    return bytes(head) + data[20:]
