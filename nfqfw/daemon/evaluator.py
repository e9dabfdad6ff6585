"""The live evaluator: engines, flow table, host facts and the worker's queue threads, put together for one daemon.

Life-cycle.  Nothing is opened until the first Program that needs a hook: an empty ruleset attaches nothing and needs no rights.
From then on threads and queues stay until `stop`; which hooks are diverted follows the Program in force.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from nfqfw._conntrack import ConntrackTable
from nfqfw._registry import NamedTables
from nfqfw.conntrack import listing
from nfqfw.daemon.flows import Flows
from nfqfw.daemon.originals import RECORD_REDIRECTED, Originals
from nfqfw.daemon.ledger import Count
from nfqfw.daemon.worker import Worker, copy_range, notices
from nfqfw.errors import NfqfwError
from nfqfw.plan import attach_plan

CONNECTIONS_SHOWN = 1_000       # in totals and status; `nfqfw conntrack -L` shows all

HUGE_PAGES_AT_ONCE = 8          # 2 MiB blocks of the flow table that one round of upkeep joins: some 5 ms each


class LiveEvaluator:
    """Judges the packets of the present network namespace.  `options`: see service.Options.

    on_lines(kind, lines) is given the text of LOG rules ("log") and of traced walks ("trace"), in a thread of its own.
    """

    def __init__(self, options, on_lines: Callable[[str, list[str]], object]) -> None:
        self.options = options
        self.flows = Flows(ConntrackTable())
        try:
            self.flows.settings(options.settings)
        except ValueError as error:                     # what only the table knows: its room
            raise NfqfwError(str(error), "give a smaller number", 2) from None
        self.originals = Originals()
        self.on_lines = on_lines
        self.engines: list = []
        self.reporters: list = []
        self.worker: Worker | None = None
        self.host = None
        self.program = None                             # in force
        self.named = NamedTables()                      # lists of recent and hashlimit: they survive reloads
        self.loaded = None                              # the same in memory, with its counters; None if nothing runs it
        self.failure: BaseException | None = None
        self.labels_told = False
        self.helpers_told: set[str] = set()
        self.lock = threading.Lock()                    # of self.host and self.worker against host changes

    # ---- what LiveStore needs -------------------------------------------------------------------------------------------

    def load(self, program, kept: frozenset[tuple[int, str]] = frozenset()) -> Sequence[Count] | None:
        """Judge by `program`; final counts of the one before, None if they go on.  NfqfwError or OSError: the old one stays in force.

        The rules of the `kept` tables (family, name) go on with the state they have (limit, quota); others start afresh.
        """
        hooks = attach_plan(program, self.options.exact)
        if self.worker is None and not hooks:
            self.program = program
            return []
        from nfqfw._engine import LoadedProgram

        loaded = LoadedProgram(program, self.options.queues, self.named, self.loaded)
        if self.worker is None:
            self.start(program, loaded, hooks)
        else:
            self.announce(program)
            if self.loaded is not None:
                loaded.inherit(self.loaded, state_copies(self.program, program, kept))
                loaded.inherit_tables(self.loaded, table_places(self.program, program, kept))
            self.worker.load(loaded, hooks, copy_range(program, self.host.largest_mtu()))
        self.named.keep(program.named)
        self.tell_labels()
        self.tell_helpers()
        old, self.loaded, self.program = self.loaded, loaded, program
        if loaded.goes_on:
            return None
        return old.counters_list() if old is not None else []

    def counters(self) -> Sequence[Count]:
        return self.loaded.counters_list() if self.loaded is not None else []

    # ---- life-cycle -----------------------------------------------------------------------------------------------------

    def start(self, program, loaded, hooks: frozenset[str]) -> None:
        """Open everything and divert; on failure nothing is left and a later command may try again."""
        from nfqfw._engine import engines
        from nfqfw.host import Host
        from nfqfw.report.live import Reporter

        self.host = Host.live(self.host_changed, self.forget_masquerades)
        try:
            self.engines = engines(self.flows.table, self.host.block, self.options.queues)
            self.reporters = [Reporter(self.interface_name) for _ in self.engines]
            self.announce(program)
            for engine in self.engines:
                engine.load(loaded)
                engine.set_trace(self.options.trace)
            worker = Worker(self.engines, queue=self.options.queue, transport=self.options.transport,
                            copy_range=copy_range(program, self.host.largest_mtu()), on_records=self.records,
                            on_warning=lambda text: self.on_lines("log", [f"nfqfw: {text}"]))
            worker.start(hooks)
        except BaseException:
            self.host.close()
            self.host, self.engines, self.reporters = None, [], []
            raise
        with self.lock:
            self.worker = worker
            worker.set_host(self.host.block)            # a change since the engines were made met no worker
        for line in notices(self.options.transport, self.host.largest_mtu()):
            self.on_lines("log", [f"nfqfw: {line}"])

    def stop(self) -> None:
        """Detach, end the threads, close the queues.  Counters and figures stay readable."""
        self.flows.stop()
        with self.lock:
            worker, host = self.worker, self.host
        if host is not None:
            host.close()
        if worker is not None:
            worker.stop()
        self.originals.clear()

    def check(self) -> BaseException | None:
        """Regular upkeep.  Returns what ended a queue thread that nobody stopped, once.

        The diversion stays then: the queue fills up and the kernel drops, fail closed (design.md must 6).
        """
        self.originals.sweep(self.flows.table)
        for _ in range(HUGE_PAGES_AT_ONCE):
            if not self.flows.table.arena.tend():
                break
        if self.worker is None or self.worker.failure is self.failure:
            return None
        self.failure = self.worker.failure
        return self.failure

    # ---- from other threads ---------------------------------------------------------------------------------------------

    def host_changed(self, host) -> None:
        with self.lock:
            if self.worker is not None:
                self.worker.set_host(host.block)
                if self.program is not None:
                    self.worker.set_copy_range(copy_range(self.program, host.largest_mtu()))

    def forget_masquerades(self, losses: list[tuple[int, bytes | None]]) -> None:
        """Masqueraded connections end with the address or the interface they use, as in the kernel."""
        from nfqfw._nat import forget_masquerade

        for ifindex, address in losses:
            forget_masquerade(self.flows.table, ifindex, address)

    def records(self, number: int, records: list[bytes]) -> None:
        for record in records:
            if record[0] == RECORD_REDIRECTED:
                self.originals.add(record)
                continue
            for kind, lines in self.reporters[number].feed(record):
                self.on_lines(kind, lines)

    def tell_labels(self) -> None:
        """Say once what SECMARK cannot do here: its labels are on our packets and connections only."""
        from nfqfw.ext.labels import CONTEXTS

        if CONTEXTS and not self.labels_told:
            self.labels_told = True
            self.on_lines("log", ["nfqfw: SECMARK: the label stays inside nfqfw: matches, connections and listings show it, SELinux and sockets do not"])

    def tell_helpers(self) -> None:
        """Which helpers the rules name and this build does not have; once each."""
        from nfqfw.ext import helpers

        for name in sorted(helpers.NAMED - self.helpers_told):
            self.helpers_told.add(name)
            self.on_lines("log", [f"nfqfw: {helpers.note(name)}"])

    def announce(self, program) -> None:
        """Let the reporters know the Program before a record can name its rules."""
        for reporter in self.reporters:
            reporter.add_program(program)

    def interface_name(self, index: int) -> str:
        return (self.host.name(index) if self.host is not None else None) or f"if{index}"

    # ---- figures --------------------------------------------------------------------------------------------------------

    def stats(self) -> dict:
        """Engine.stats() summed over the threads, with the transport's own figures beside it."""
        from nfqfw.report.totals import add

        stats: dict = {}
        for engine in self.engines:
            stats = add(stats, engine.stats())
        if self.worker is not None:
            stats["transport"] = self.worker.totals()
        return stats

    def connections(self) -> list[str]:
        """The flow table as `conntrack -L` prints it, at most CONNECTIONS_SHOWN lines."""
        entries = self.flows.table.list(now_ns=time.monotonic_ns())[:CONNECTIONS_SHOWN]
        return [listing.line(entry, time.time_ns()) for entry in entries]

    def status(self) -> dict:
        """What is open and diverted now."""
        return {
            "hooks": sorted(self.worker.hooks) if self.worker is not None else [],
            "queues": [self.options.queue + number for number in range(len(self.engines))],
            "transport": self.options.transport,
            "connections": self.flows.table.count,
            "transport_totals": self.worker.totals() if self.worker is not None else {},
            "failure": repr(self.failure) if self.failure is not None else None,
        }


def state_copies(old, new, kept: frozenset[tuple[int, str]]) -> list[tuple[int, int, int]]:
    """(offset in new, offset in old, bytes) of the states of rules of the kept tables, which are the same objects in both."""
    if new.block is old.block:                          # an edit: every state is where it was
        return [(offset, offset, size) for family, table, offset, size in old.state_spans if (family, table) in kept]
    there: dict[tuple[int, int], int] = {}              # (id of the rule, how many states of it came before) -> offset
    for row, ordinal, offset, _ in numbered(old):
        there[id(old.rules[row]), ordinal] = offset
    copies = []
    for row, ordinal, offset, size in numbered(new):
        chain = new.chains[new.rule_chain[row]]
        key = id(new.rules[row]), ordinal
        if (chain.family, chain.table) in kept and key in there:
            copies.append((offset, there[key], size))
    return copies


def table_places(old, new, kept: frozenset[tuple[int, str]]) -> list[tuple[int, int]]:
    """(number in new, number in old) of the private tables (connlimit) of rules of the kept tables."""
    there = {place: number for number, place in private_tables(old)}
    places = []
    for number, place in private_tables(new):
        chain = new.chains[new.rule_chain[new.named[number].row]]
        if (chain.family, chain.table) in kept and place in there:
            places.append((number, there[place]))
    return places


def private_tables(program):
    """(number, (id of the rule, ordinal among its private tables)) of each."""
    seen: dict[int, int] = {}
    for number, use in enumerate(program.named):
        if use.key is None:
            rule = id(program.rules[use.row])
            seen[rule] = seen.get(rule, -1) + 1
            yield number, (rule, seen[rule])


def numbered(program):
    """(rule row, ordinal among the rule's states, offset, bytes) of a Program's states."""
    last, ordinal = -1, 0
    for row, offset, size in program.states:
        ordinal = ordinal + 1 if row == last else 0
        last = row
        yield row, ordinal, offset, size
