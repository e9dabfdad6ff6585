"""Replay: a capture through the engine of a live firewall, without root and without traffic.

Overview.  `queue/offline.py` plays the kernel (which hooks, which interfaces, what routing refuses), the engine judges, the
capture's times are the clock, so limits and time-outs act as they would have.  Here the parts are put together, and each
packet's fate, its trace and its LOG lines are told.  A held fragment ends when its datagram does: later than it came.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from nfqfw._conntrack import ConntrackTable
from nfqfw._engine import Engine, LoadedProgram
from nfqfw.compile import compile_rulesets
from nfqfw.conntrack._policies import TimeoutPolicies
from nfqfw.conntrack.timeouts import PolicyList
from nfqfw.host import Host
from nfqfw.plan import attach_plan, hook_mask
from nfqfw.queue._feed import Feed
from nfqfw.queue.capture import Captured
from nfqfw.queue.offline import DELIVERED, HOOK_NAMES, SENT, Crossing, OfflineQueue, Router, Travelling, pump
from nfqfw.report.live import Reporter
from nfqfw.report.packet import Summary, summarise
from nfqfw.report.totals import counts_of, totals

PASSED = (DELIVERED, SENT)
DROPPED = "drop"


@dataclass(slots=True)
class Fate:
    """How the way of one packet ended.  verdict: ACCEPT, DROP, or the kernel's own reason ("no route", "ttl exceeded", "martian")."""
    number: int                     # of the frame in the capture, from 1; 0 = a reply of ours
    time: int                       # ns since the epoch
    data: bytes                     # as it was where it ended
    verdict: str
    hook: str                       # where it ended
    reason: str                     # name of our own reason to drop, "none" when the rules decided

    @property
    def summary(self) -> Summary:
        return summarise(self.data)


@dataclass(slots=True)
class Told:
    """What one packet of the capture caused: fates (its own, or of packets that waited for it), lines of LOG and trace."""
    captured: Captured
    fates: list[Fate] = field(default_factory=list)
    lines: list[tuple[str, list]] = field(default_factory=list)         # ("log" | "trace", lines, or dicts with as_data)


class Replay:
    """One capture through one ruleset.

    host: facts that choose the hooks; None = everything is forwarded.  exact: show the engine every hook, not only those that a
    live firewall would divert for this ruleset.  as_data: traced walks as dicts instead of lines.  policies: the time-out policies that
    CT rules name, a PolicyList.
    """

    def __init__(self, rulesets: list, host: Host | None = None, interfaces: tuple[str, str] = ("", ""),
                 trace: bool = False, exact: bool = False, as_data: bool = False, policies: PolicyList | None = None) -> None:
        self.rulesets = rulesets
        self.program = compile_rulesets(rulesets)
        known = host if host is not None else Host.offline({name: [] for name in dict.fromkeys(interfaces) if name})
        self.names = lambda number: known.name(number) or str(number)
        self.table = ConntrackTable()
        if policies is not None:
            TimeoutPolicies(self.table).take(policies)
        self.engine = Engine(self.table, known.block)
        self.loaded = LoadedProgram(self.program)
        self.engine.load(self.loaded)
        self.engine.set_trace(trace)
        hooks = attach_plan(self.program, exact)
        self.engine.set_attached(hook_mask(hooks))
        ways = tuple(known.index(name) or 0 if name else 0 for name in interfaces)
        self.queue = OfflineQueue(Feed(self.engine), Router(host, ways), hooks, on_crossing=self._crossed, on_end=self._ended)
        self.reporter = Reporter(self.names, as_data)
        self.reporter.add_program(self.program)
        self.verdicts: Counter[str] = Counter()
        self._reasons: dict[int, str] = {}
        self._fates: list[Fate] = []

    def run(self, capture: Iterable[Captured]) -> Iterator[Told]:
        """Each packet of the capture to its end, in the capture's order."""
        time = 0
        for captured in capture:
            time = max(time, captured.time)             # captures of several interfaces are not quite in order
            pump(self.queue, (captured._replace(time=time),))
            told, self._fates = Told(captured, self._fates), []
            for record in self.engine.take_records():
                told.lines += self.reporter.feed(record)
            yield told

    def totals(self) -> dict:
        counts = counts_of(self.program, self.loaded.counters_list())
        return {"verdicts": dict(self.verdicts)} | totals(self.rulesets, counts, self.engine.stats())

    def _crossed(self, crossing: Crossing) -> None:
        self._reasons[crossing.packet.id] = crossing.decision.reason

    def _ended(self, packet: Travelling, how: str) -> None:
        verdict = "ACCEPT" if how in PASSED else "DROP" if how == DROPPED else how
        reason = self._reasons.pop(packet.id, "none") if verdict == "DROP" else "none"
        self._reasons.pop(packet.id, None)
        if packet.number:
            self.verdicts[verdict] += 1
        self._fates.append(Fate(packet.number, packet.time, packet.data, verdict, HOOK_NAMES[packet.hook], reason))
