"""The twin that is nfqfw: the engine in-process, and around it the little of Linux that lies between the hooks.

Overview.  `RouterModel` is the kernel as far as packets see it: which hooks a packet crosses (local or forwarded, by the lab's
addresses), the hop count that forwarding takes, reassembly before local delivery of IPv4, where a frame leaves.  It evaluates
nothing: every verdict, mark and byte comes from the engine.  All five hooks are attached, so each crossing is asked for.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from functools import cache

from nfqfw import compile as compiler
from nfqfw import packets as door
from nfqfw._conntrack import ConntrackTable
from nfqfw._engine import Engine, LoadedProgram
from nfqfw.conntrack import nfct
from nfqfw.conntrack._policies import TimeoutPolicies
from nfqfw.conntrack.command import run as conntrack_tool
from nfqfw.ext.lowering import Action
from nfqfw.host import Host
from nfqfw.queue.offline import routable
from nfqfw.reasons import REASONS
from nfqfw.rules import check, load, lower_rule
from nfqfw.rules.model import Standard
from nfqfw.selftest.case import Case, Step, first_sent
from nfqfw.selftest.npt import without_quoted
from nfqfw.selftest.outcome import (Connection, Counters, Emitted, Outcome, fragment_header, generated, joined6, normal_listing, normal_packet,
                                    trains_joined, with_marks)
from nfqfw.selftest.packets import IPV4, build, checksum
from nfqfw.selftest.reassembly import Reassembly

LO, ETH0, ETH1 = 1, 2, 3
LINKS = {"client": ETH0, "server": ETH1}
POINTS = {ETH0: "client", ETH1: "server"}
START = 10**12                  # ns: CLOCK_MONOTONIC of the first case
WALL = 1_795_000_000 * 10**9    # ns: CLOCK_REALTIME of every case, in November 2026
SOURCES = {ETH0: bytes.fromhex("020000000102"), ETH1: bytes.fromhex("020000000202")}       # far ends' link-layer addresses
BETWEEN_CASES = 10**13          # ns: longer than any time-out, so that nothing of a case is left in the next
JIFFY_NS = 4_000_000
PACKET_NS = 100_000             # between two packets of a case without a delay
VERDICTS = ("DROP", "ACCEPT", "HELD", "QUEUE", "REPEAT")


@dataclass(slots=True)
class Flying:
    """A packet between two crossings."""

    data: bytes
    hook: int
    ifin: int = 0
    ifout: int = 0
    mark: int = 0
    uid: int | None = None
    datagram: int = 0           # fragments of one reassembled datagram leave as one


@cache
def lab_host() -> Host:
    """The router of the kernel's twin as a Host snapshot: same addresses, ICMP rate limits off."""
    return Host.offline(
        {
            "eth0": ["10.0.1.1/24", "2001:db8:1::1/64"],
            "eth1": ["10.0.2.1/24", "2001:db8:2::1/64"],
        },
        routes=["10.1.0.0/16 via 10.0.1.2 dev eth0", "10.2.0.0/16 via 10.0.2.2 dev eth1", "192.0.2.0/24 via 10.0.2.2 dev eth1",
                "2001:db8:a::/64 via 2001:db8:1::2 dev eth0", "2001:db8:b::/64 via 2001:db8:2::2 dev eth1",
                "2001:db8:ffff::/64 via 2001:db8:2::2 dev eth1"],
        sysctls={"net.ipv4.icmp_ratelimit": 0, "net.ipv4.icmp_ratemask": 0, "net.ipv6.icmp.ratelimit": 0},
    )


_LOCAL = {IPV4: {bytes((10, 0, 1, 1)), bytes((10, 0, 2, 1)), bytes((127, 0, 0, 1)), bytes((10, 0, 1, 255)), bytes((10, 0, 2, 255))},
          10: {bytes.fromhex("20010db8000100000000000000000001"), bytes.fromhex("20010db8000200000000000000000001"),
               b"\0" * 15 + b"\1"}}
_OWN4 = {bytes((10, 0, 1, 1)), bytes((10, 0, 2, 1))}
_ROUTES = {IPV4: ((bytes((10, 0, 1)), ETH0), (bytes((10, 1)), ETH0), (bytes((10, 0, 2)), ETH1), (bytes((10, 2)), ETH1),
                  (bytes((192, 0, 2)), ETH1)),
           10: ((bytes.fromhex("20010db8000a0000"), ETH0), (bytes.fromhex("20010db8000b0000"), ETH1),
                (bytes.fromhex("20010db800010000"), ETH0), (bytes.fromhex("20010db800020000"), ETH1),
                (bytes.fromhex("20010db8ffff0000"), ETH1))}


def route(data: bytes, family: int) -> int:
    """Interface by which a packet to its destination leaves; LO for the router's own addresses, 0 for no route."""
    target = data[16:20] if family == IPV4 else data[24:40]
    if target in _LOCAL[family]:
        return LO
    return next((link for prefix, link in _ROUTES[family] if target.startswith(prefix)), 0)


def is_loopback(data: bytes, family: int) -> bool:
    """Whether a packet is for 127.0.0.0/8 or ::1: from outside (NAT may have sent it there) Linux drops it where it routes."""
    return data[16] == 127 if family == IPV4 else data[24:40] == b"\0" * 15 + b"\1"


class OurTwin:
    """The engine, asked as the kernel would ask it.  `run(case)` gives our Outcome."""

    def __init__(self, classes: bool = False) -> None:
        """classes: track whatever the rules say, as the kernel's twin does where it logs every packet's class."""
        self.classes = classes
        self.table = ConntrackTable(4096)
        self.policies = TimeoutPolicies(self.table)
        self.host = lab_host()
        self.engine = Engine(self.table, self.host.block)
        self.now = START
        self.reassembly = Reassembly()
        self.seen: Counter = Counter()          # what was hit: opcodes of rules that matched, verdicts, reasons, classes
        self._changed: dict[str, int] = {}
        self._held: dict[int, Flying] = {}
        self._number = 0
        self._pieces: list[bytes] = []

    def __enter__(self) -> OurTwin:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def run(self, case: Case, states: bool = False) -> Outcome:
        self.now += BETWEEN_CASES - self.now % JIFFY_NS       # a case without delays takes place within one jiffy
        self.engine.idle(self.now)
        self.engine.take_released()
        self._held.clear()
        self._pieces = []
        self.table.flush()
        self._settings(case.settings)
        nfct.run(["flush", "timeout"], self.policies)
        nfct.load("\n".join(case.policies), case.name, self.policies)
        self.loaded = LoadedProgram(program_of(case, self.classes, self.policies))
        self.engine.load(self.loaded)
        self.reassembly = Reassembly()
        self.family = case.family
        outcome = Outcome()
        for step in case.steps:
            self.now += int(step.delay * 1e9) or PACKET_NS
            if step.command:
                said = self._command(step.command.split(), step.tool)
                outcome.commands.append(normal_listing(said.code, said.stdout + said.stderr))
                outcome.steps.append([])
                outcome.classes.append("")
            else:
                self._step(case, step, outcome)
            if states:
                outcome.states.append(self.connections())
        outcome.steps = without_quoted(case, outcome.steps)
        outcome.counters = counters_of(self.loaded)
        self._note_rules()
        outcome.connections = self.connections()
        return outcome

    def _command(self, argv: list[str], tool: str):
        if tool == "nfct":
            return nfct.run(argv, self.policies, self.loaded.program.policies)
        return conntrack_tool(argv, self.table, now_ns=self.now, wall_ns=WALL)

    def _note_rules(self) -> None:
        """Count the opcodes of every rule that a packet of this case matched."""
        program = self.loaded.program
        for rule, (packets, _) in zip(program.rules, self.loaded.counters_list(), strict=False):
            if packets:
                tests, target, _ = lower_rule(rule)
                self.seen.update(f"op {test.op}" for test in tests)
                self.seen[f"target {target_name(target)}"] += 1

    def connections(self) -> list[Connection]:
        return sorted(connection_of(entry) for entry in self.table.list(now_ns=self.now))

    def _settings(self, settings: dict[str, str]) -> None:
        for name, old in self._changed.items():
            self.table.set(name, old)
        self._changed = {name: self.table.get(name) for name in settings if name.startswith("nf_conntrack")}
        for name in self._changed:
            self.table.set(name, int(settings[name]))

    # ---- one packet ---------------------------------------------------------------------------------------------

    def _step(self, case: Case, step: Step, outcome: Outcome) -> None:
        data = build(step.packet, self.family)
        data = data if step.point == "local" else without_padding(data, self.family)
        if step.point == "local":
            first = Flying(data, door.OUTPUT, ifout=route(data, self.family), uid=0)
        else:
            first = Flying(data, door.PREROUTING, ifin=LINKS[step.point])
        self.emitted: list[Emitted] = []
        self.marks: list[int] = []
        self.datagrams: set[int] = set()
        self.ctclass = ""
        self.waiting = [first]
        while self.waiting:
            self._cross(self.waiting.pop(0))
        self.engine.idle(self.now)              # as the transport does when its sockets are empty
        outcome.classes.append(self.ctclass)
        frames = trains_joined([e for e in self.emitted if e.point != "input"], self.family, first_sent(case.steps, step))
        outcome.steps.append(with_marks(frames, self.marks) + [e for e in self.emitted if e.point == "input"])

    def _cross(self, p: Flying) -> None:
        """One crossing.  Our replies go out before anything else happens, then what was released, then the packet itself."""
        self._number += 1
        self._held[self._number] = p
        crossing = door.PacketIn(p.data, p.hook, p.ifin, p.ifout, self.family, mark=p.mark, uid=p.uid, gid=p.uid, id=self._number,
                                 hwaddr=SOURCES.get(p.ifin, b""))
        decision = self.engine.one(crossing, self.now, WALL)
        self._note(p, decision)
        on: list[Flying] = []
        for ident, verdict, data, mark, _reason in self.engine.take_released():
            held = self._held.pop(ident)
            if verdict == door.ACCEPT:
                on += self._after(Flying(data or held.data, held.hook, held.ifin, held.ifout, mark, held.uid, self._number))
        if decision.verdict != door.HELD:
            self._held.pop(self._number)
        if decision.verdict == door.ACCEPT:
            on += self._after(Flying(decision.data or p.data, p.hook, p.ifin, p.ifout, decision.mark, p.uid, p.datagram))
        replies = [Flying(as_raw_socket_sends(data, self.family), door.OUTPUT, ifout=route(data, self.family))
                   for _, data, _ in self.engine.take_replies()]
        self.waiting[:0] = replies + on

    def _note(self, p: Flying, decision: door.Decision) -> None:
        if not self.ctclass and p.hook in (door.PREROUTING, door.OUTPUT) and REASONS[decision.reason] != "bad_ip":
            self.ctclass = decision.ctstate
            self.seen["class " + decision.ctstate] += 1
        self.seen[f"verdict {VERDICTS[decision.verdict]}"] += 1
        if decision.reason:
            self.seen[f"reason {REASONS[decision.reason]}"] += 1

    def _after(self, p: Flying) -> list[Flying]:
        """What Linux does with an accepted packet behind a hook: the next crossing, or its end."""
        if p.hook == door.PREROUTING:
            out = route(p.data, self.family)
            if p.ifin != LO and (is_loopback(p.data, self.family) or not routable(p.data, p.data[12:16] in _OWN4)):
                return []
            if out == LO:
                return self._to_input(p)
            return [Flying(forwarded(p.data, self.family), door.FORWARD, p.ifin, out, p.mark, None, p.datagram)] if out else []
        if p.hook == door.OUTPUT:               # rewritten there: routed again
            return [Flying(p.data, door.POSTROUTING, p.ifin, route(p.data, self.family), p.mark, p.uid, p.datagram)]
        if p.hook == door.FORWARD:
            return [Flying(p.data, door.POSTROUTING, p.ifin, p.ifout, p.mark, p.uid, p.datagram)]
        if p.hook == door.INPUT:
            self._emit("input", p)
            return []
        if p.ifout == LO:
            return [Flying(p.data, door.PREROUTING, LO, 0, p.mark, None, p.datagram)]
        if not p.datagram or p.datagram not in self.datagrams:
            self.marks.append(p.mark)
            self.datagrams.add(p.datagram)
        self._emit(POINTS[p.ifout], p)
        return []

    def _to_input(self, p: Flying) -> list[Flying]:
        data = self.reassembly.add(p.data) if self.family == IPV4 else p.data
        return [Flying(data, door.INPUT, p.ifin, 0, p.mark, None, 0 if self.family == IPV4 else p.datagram)] if data else []

    def _emit(self, point: str, p: Flying) -> None:
        data = p.data
        if point == "input" and p.datagram and self.family != IPV4 and fragment_header(data)[1]:
            self._pieces.append(data)               # the socket sees them merged, as it does on the kernel's twin
            if data[fragment_header(data)[1] + 3] & 1:
                return
            data, self._pieces = joined6(self._pieces), []
        data = normal_packet(data, self.family, generated(data, self.family))
        self.emitted.append(Emitted(point, data, p.mark if point == "input" else 0))


def target_name(target: object) -> str:
    if isinstance(target, Action):
        return target.op
    return target.name if isinstance(target, Standard) else "none" if target is None else "goto" if target.goto else "jump"


def as_raw_socket_sends(data: bytes, family: int) -> bytes:
    """A reply of ours as an IP_HDRINCL socket sends it: the kernel fills in a source that is zero, and the header checksum."""
    if family != IPV4:
        return data
    head = bytearray(data[:20])
    if head[12:16] == b"\0\0\0\0":
        out = route(data, family)
        head[12:16] = data[16:20] if out == LO else bytes((10, 0, 1 if out == ETH0 else 2, 1))
    head[10:12] = b"\0\0"
    struct.pack_into(">H", head, 10, checksum(bytes(head)))
    return bytes(head) + data[20:]


def without_padding(data: bytes, family: int) -> bytes:
    """What ip_rcv leaves of a frame: bytes behind the length that its header claims are gone."""
    if len(data) < (20 if family == IPV4 else 40) or family != IPV4 and data[4:7] == b"\0\0\0":
        return data
    claimed = struct.unpack_from(">H", data, 2)[0] if family == IPV4 else 40 + struct.unpack_from(">H", data, 4)[0]
    return data[:claimed] if claimed >= 20 else data


def forwarded(data: bytes, family: int) -> bytes:
    """The packet with one hop less, as ip_forward leaves it."""
    if family != IPV4:
        return data[:7] + bytes((data[7] - 1,)) + data[8:]
    head = bytearray(data[:(data[0] & 15) * 4])
    head[8] -= 1
    head[10:12] = b"\0\0"
    struct.pack_into(">H", head, 10, checksum(bytes(head)))
    return bytes(head) + data[len(head):]


def tracking(rules: str) -> str:
    """The rules with one more that asks for tracking, in a chain that nothing enters."""
    head, _, rest = rules.partition("*security\n")
    body, _, tail = rest.partition("COMMIT\n")
    return f"{head}*security\n:oracle - [0:0]\n{body}-A oracle -m conntrack --ctstate NEW\nCOMMIT\n{tail}"


def program_of(case: Case, track: bool = False, policies=None, generation: int = 1) -> compiler.Program:
    text = tracking(case.whole_rules()) if track else case.whole_rules()
    ruleset = load(text, case.name, case.family)
    check(ruleset, None, policies)
    return compiler.compile_rulesets([ruleset], generation)


def counters_of(loaded: LoadedProgram) -> Counters:
    program, values = loaded.program, loaded.counters_list()
    out: Counters = {(c.table, c.chain.name): [] for c in program.chains}
    for row, chain in enumerate(program.rule_chain):
        info = program.chains[chain]
        out[(info.table, info.chain.name)].append(values[row])
    for info in program.chains:
        if info.policy_counter != compiler.NONE:
            out[(info.table, info.chain.name)].append(values[info.policy_counter])
    out.pop(("security", "oracle"), None)
    return out


def connection_of(entry) -> Connection:
    """Our table's entry in the terms of both twins."""
    ends = [(t.src, t.dst, t.sport, t.dport) for t in (entry.original, entry.reply)]
    return Connection(entry.proto, *ends, entry.status, entry.state_name or "", entry.timeout, entry.mark,
                      entry.original.zone | entry.reply.zone << 16)
