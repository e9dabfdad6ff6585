"""Trace: the record of the walk that gave a packet its verdict, as text and as plain data.

Overview.  An engine writes a PACKET record, one record per step, and an END record for each packet with tracing on.
`Collector` puts the records of one packet together (several packets may be under way at once: held fragments, more
queue threads); a finished `Walk` becomes lines by `render`, or a dict by `as_data`.  Nothing is judged again here: rule
numbers are turned into names and places by the Program that walked.

    TCP 10.77.1.2:40112 -> 10.77.2.2:22 SYN  60 bytes, in eth0 out eth1
      conntrack: NEW
      filter FORWARD
        1 demo.v4:14 -m conntrack --ctstate ESTABLISHED -j ACCEPT             no: -m conntrack --ctstate ESTABLISHED, ctstate is NEW
        2 demo.v4:17 -p tcp -m tcp --dport 22 -j blocked                      yes, jump to blocked
        blocked 2 demo.v4:25 -j DROP                                          yes
      => DROP by demo.v4:25 (filter blocked rule 2)
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from nfqfw.compile import HEADER, HOOKS, RULE_ROW, TABLES, TEST_ROW, Program
from nfqfw.ops import TESTS
from nfqfw.reasons import REASONS
from nfqfw.report.packet import Summary, summarise
from nfqfw.report.records import NO_NUMBER, PACKET, PacketFacts, TraceEvent
from nfqfw.rules.saving import rule_text

VERDICTS = {0: "DROP", 1: "ACCEPT", 2: "HELD", 3: "QUEUE", 4: "REPEAT"}
CTINFO = {0: "ESTABLISHED", 1: "RELATED", 2: "NEW", 3: "ESTABLISHED (reply)", 4: "RELATED (reply)", 7: "UNTRACKED", 8: "INVALID"}
WALKS_MAX = 4096                    # packets under way that a Collector remembers; the oldest is given up first
RULE_COLUMN = 72                    # a rule of at most so many characters has its outcome beside it, a longer one below

LOG_INFO = struct.Struct("<BB30s")   # LogInfo of ext/t_LOG.pxd: level, flags, prefix

Names = Callable[[int], str]        # ifindex -> interface name


@dataclass(slots=True)
class Walk:
    """One packet on its way: its first record and what happened, in order.  A PacketFacts among the events: NAT changed it to that."""
    packet: PacketFacts | None
    events: list[TraceEvent | PacketFacts] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        last = self.events[-1] if self.events else None
        return VERDICTS.get(last.value, str(last.value)) if isinstance(last, TraceEvent) and last.event == "end" else "?"


class Collector:
    """Records in, finished walks out."""

    def __init__(self) -> None:
        self.walks: dict[int, Walk] = {}

    def feed(self, record: PacketFacts | TraceEvent) -> Walk | None:
        """The walk that this record ends, or None."""
        if isinstance(record, PacketFacts):
            if record.kind == PACKET and record.serial in self.walks:
                self.walks[record.serial].events.append(record)
            elif record.kind == PACKET:
                self.open(record.serial, Walk(record))
            return None
        walk = self.walks.get(record.serial) or self.open(record.serial, Walk(None))
        walk.events.append(record)
        return self.walks.pop(record.serial) if record.event == "end" else None

    def open(self, serial: int, walk: Walk) -> Walk:
        self.walks[serial] = walk
        if len(self.walks) > WALKS_MAX:
            self.walks.pop(next(iter(self.walks)))
        return walk


# ---- numbers to names ------------------------------------------------------------------------------------------------

class Places:
    """What the row numbers of one Program mean."""

    def __init__(self, program: Program) -> None:
        self.program = program
        header = HEADER.unpack_from(program.block)
        self.rules, self.tests, self.data = header[6], header[8], header[10]        # offsets of the sections

    def chain(self, number: int) -> str:
        return self.program.chains[number].chain.name if number < len(self.program.chains) else "?"

    def table(self, chain: int) -> str:
        return self.program.chains[chain].table if chain < len(self.program.chains) else "?"

    def position(self, row: int) -> int:
        """1-based number of the rule in its chain: the number that -L --line-numbers shows."""
        return self.program.position(row)

    def origin(self, row: int) -> str:
        span = self.program.rules[row].span
        return f"{span.file}:{span.line}" if span is not None and span.file else "command line"

    def text(self, row: int) -> str:
        return rule_text(self.program.rules[row]).strip()

    def opcode(self, test: int) -> str:
        number = TEST_ROW.unpack_from(self.program.block, self.tests + test * TEST_ROW.size)[0]
        return TESTS[number] if number < len(TESTS) else "?"

    def log_options(self, row: int) -> tuple[str, int]:
        """Prefix and flags of a LOG rule, from its LogInfo."""
        argument = RULE_ROW.unpack_from(self.program.block, self.rules + row * RULE_ROW.size)[3]
        _, flags, prefix = LOG_INFO.unpack_from(self.program.block, self.data + argument)
        return prefix.rstrip(b"\0").decode(errors="surrogateescape"), flags

    def failed(self, row: int, test: int) -> str:
        """The words of the rule that did not hold: an option of its own part, or a whole match."""
        match = TEST_ROW.unpack_from(self.program.block, self.tests + test * TEST_ROW.size)[4]
        if not match:
            return OWN_PART.get(self.opcode(test), self.opcode(test))
        use = self.program.rules[row].matches[match - 1]
        return f"-m {use.ext.name}{use.ext.save(use)}"


OWN_PART = {"src4": "-s", "dst4": "-d", "src6": "-s", "dst6": "-d", "in": "-i", "out": "-o", "proto": "-p", "fragment": "-f"}


@dataclass(frozen=True, slots=True)
class Seen:
    """What a packet showed to a predicate."""
    summary: Summary
    ifin: str
    ifout: str
    mark: int
    ctstate: str
    packet: PacketFacts | None


def _ports(seen: Seen) -> str:
    s = seen.summary
    if s.sport is None:
        return "no ports" if not s.fragment else "a later fragment"
    return f"ports are {s.sport} -> {s.dport}" + (f", {s.flags()}" if s.tcp_flags is not None else "")


# opcode -> what the packet has where the rule asks
ACTUAL: dict[str, Callable[[Seen], str]] = {
    **dict.fromkeys(("src4", "src6"), lambda seen: f"source is {seen.summary.source}"),
    **dict.fromkeys(("dst4", "dst6"), lambda seen: f"destination is {seen.summary.destination}"),
    "in": lambda seen: f"in is {seen.ifin or 'none'}",
    "out": lambda seen: f"out is {seen.ifout or 'none'}",
    "proto": lambda seen: f"protocol is {seen.summary.protocol}",
    "fragment": lambda seen: f"fragment offset is {seen.summary.fragment}",
    **dict.fromkeys(("tcp", "udp", "multiport", "sctp", "dccp"), _ports),
    **dict.fromkeys(("icmp", "icmp6"), lambda seen: "type %d code %d" % seen.summary.icmp if seen.summary.icmp else "no ICMP header"),
    **dict.fromkeys(("conntrack", "state"), lambda seen: f"ctstate is {seen.ctstate}"),
    "mark": lambda seen: f"mark is {seen.mark:#x}",
    "limit": lambda seen: "over the limit",
    "quota": lambda seen: "used up",
    "statistic": lambda seen: "not this one's turn",
    "ttl": lambda seen: f"{'hop limit' if seen.summary.family == 10 else 'ttl'} is {seen.summary.ttl}",
    "tos": lambda seen: f"tos is {seen.summary.tos:#04x} (dscp {seen.summary.tos >> 2:#04x})" if seen.summary.tos is not None else "no tos",
    "ecn": lambda seen: f"ECN bits are {seen.summary.tos & 3}" if seen.summary.tos is not None else "no ECN bits",
    "iprange": lambda seen: f"addresses are {seen.summary.source} -> {seen.summary.destination}",
    "addrtype": lambda seen: f"addresses are {seen.summary.source} -> {seen.summary.destination}",
    "pkttype": lambda seen: f"destination is {seen.summary.destination}",
    "length": lambda seen: f"length is {seen.packet.total}" if seen.packet else "",
    "mac": lambda seen: f"source MAC is {seen.packet.hwaddr.hex(':') or 'not known'}" if seen.packet else "",
    "owner": lambda seen: f"uid is {seen.packet.uid}" if seen.packet and seen.packet.uid is not None else "no owner known",
}


# ---- text ------------------------------------------------------------------------------------------------------------

@dataclass(slots=True)
class Rendering:
    """State of one rendering: the lines so far, and what later lines need to know."""
    places: Places
    names: Names
    summary: Summary
    packet: PacketFacts | None
    lines: list[str] = field(default_factory=list)
    decided_by: dict[str, str] = field(default_factory=dict)       # table -> what gave its verdict
    table: str = ""                                                # the one being walked
    base: int = NO_NUMBER                                          # its built-in chain

    def seen(self, event: TraceEvent) -> Seen:
        names, packet = self.names, self.packet
        ctstate = "not tracked yet" if event.ctinfo == NO_NUMBER else CTINFO.get(event.ctinfo, str(event.ctinfo))
        return Seen(self.summary, names(packet.ifin) if packet else "?", names(packet.ifout) if packet else "?", event.mark, ctstate, packet)

    def rule_line(self, event: TraceEvent, outcome: str) -> None:
        places, row = self.places, event.rule
        chain = "" if event.chain == self.base else places.chain(event.chain) + " "
        head = f"    {chain}{places.position(row)} {places.origin(row)} {places.text(row)}"
        if len(head) > RULE_COLUMN:
            self.lines += [head, f"        {outcome}"]
        else:
            self.lines.append(f"{head:<{RULE_COLUMN}}  {outcome}")


def _step(r: Rendering, e: TraceEvent) -> None:
    r.base = e.chain
    r.table = r.places.table(e.chain)
    r.lines.append(f"  {r.places.table(e.chain)} {r.places.chain(e.chain)}")


def _miss(r: Rendering, e: TraceEvent) -> None:
    if e.test == NO_NUMBER:
        r.rule_line(e, "hotdrop: malformed for this match")
        r.decided_by[r.table] = f"{r.places.origin(e.rule)} (hotdrop)"
        return
    opcode = r.places.opcode(e.test)
    actual = ACTUAL[opcode](r.seen(e)) if opcode in ACTUAL else ""
    r.rule_line(e, f"no: {r.places.failed(e.rule, e.test)}" + (f", {actual}" if actual else ""))


def _match(r: Rendering, e: TraceEvent) -> None:
    r.rule_line(e, "yes")
    chain = r.places.program.rule_chain[e.rule]
    r.decided_by[r.table] = f"{r.places.origin(e.rule)} ({r.places.table(chain)} {r.places.chain(chain)} rule {r.places.position(e.rule)})"


def _transfer(word: str) -> Callable[[Rendering, TraceEvent], None]:
    def line(r: Rendering, e: TraceEvent) -> None:
        r.lines[-1] += f", {word} {r.places.chain(e.value)}"
    return line


def _policy(r: Rendering, e: TraceEvent) -> None:
    verdict = VERDICTS.get(e.value, str(e.value))
    r.decided_by[r.table] = f"the policy of {r.places.table(e.chain)} {r.places.chain(e.chain)}"
    r.lines.append(f"    policy {verdict}")


def _conntrack(r: Rendering, e: TraceEvent) -> None:
    r.lines.append(f"  conntrack: {CTINFO.get(e.value, e.value)}" + (f", connection {e.rule}" if e.rule not in (0, NO_NUMBER) else ""))


def _reason(number: int) -> str:
    return REASONS[number] if number < len(REASONS) else f"reason {number}"


def _end(r: Rendering, e: TraceEvent) -> None:
    verdict = VERDICTS.get(e.value, str(e.value))
    ours = e.rule if e.rule < NO_NUMBER else 0
    why = f": reason {_reason(ours)}" if ours and _reason(ours) != "rejected" else ""
    by = r.decided_by.get(r.table if verdict == "DROP" else "filter", "")       # every table accepted: filter is the one that decides
    r.lines.append(f"  => {verdict}" + (why or (f" by {by}" if by else "")))


LINES: dict[str, Callable[[Rendering, TraceEvent], None]] = {
    "step": _step, "miss": _miss, "match": _match, "jump": _transfer("jump to"), "goto": _transfer("goto"),
    "return": lambda r, e: r.lines.append(f"    back in {r.places.chain(e.chain)}"),
    "policy": _policy,
    "verdict": lambda r, e: None,               # the rule that gave it has been printed
    "conntrack": _conntrack,
    "confirm": lambda r, e: r.lines.append("  confirm: " + ("the connection is entered" if e.value == 0 else _reason(e.value))),
    "mark": lambda r, e: r.lines.append(f"      mark set to {e.value:#x}"),
    "rewrite": lambda r, e: r.lines.append("      packet changed"),
    "nat": lambda r, e: r.lines.append(f"  nat: {'destination' if e.value else 'source'} mapped, connection {e.rule}"),
    "defrag": lambda r, e: r.lines.append("  fragments: " + {0: "held", 1: "datagram complete"}.get(e.value, _reason(e.value))),
    "reject": lambda r, e: r.lines.append("      reply " + ("sent" if e.value == 0 else f"not sent (outcome {e.value})")),
    "end": _end,
}


def render(walk: Walk, places: Places, names: Names = str) -> list[str]:
    """The walk as lines; `places` belongs to the Program of its generation, `names` gives interface names."""
    packet = walk.packet
    summary = summarise(packet.data if packet else b"")
    rendering = Rendering(places, names, summary, packet)
    if packet is not None:
        ways = [f"{word} {names(number)}" for word, number in (("in", packet.ifin), ("out", packet.ifout)) if number]
        mark = f", mark {packet.mark:#x}" if packet.mark else ""
        rendering.lines.append(f"{summary}  {packet.total} bytes{mark}, at {HOOKS[packet.hook]} {' '.join(ways)}".rstrip())
    else:
        rendering.lines.append("(the record of the packet itself was lost: the ring was full)")
    for event in walk.events:
        if isinstance(event, PacketFacts):
            rendering.summary = summarise(event.data)
            rendering.lines.append(f"      packet is now {rendering.summary}")
            continue
        LINES.get(event.event, lambda r, e: r.lines.append(f"  {e.event} {e.value}"))(rendering, event)
    return rendering.lines


def events_data(walk: Walk, places: Places) -> Iterator[dict]:
    """Each step as a dict of names, for --json."""
    for e in walk.events:
        if isinstance(e, PacketFacts):
            yield {"event": "changed", "packet": str(summarise(e.data))}
            continue
        item: dict = {"event": e.event, "hook": HOOKS[e.hook] if e.hook < len(HOOKS) else e.hook,
                      "table": TABLES[e.table] if e.table < len(TABLES) else e.table}
        if e.event in ("step", "miss", "match", "jump", "goto", "return", "policy"):
            item["chain"] = places.chain(e.chain)
        if e.event in ("miss", "match", "jump", "goto"):
            item |= {"rule": places.position(e.rule), "at": places.origin(e.rule), "text": places.text(e.rule)}
        if e.event == "miss" and e.test != NO_NUMBER:
            item["failed"] = places.failed(e.rule, e.test)
        if e.event in ("jump", "goto"):
            item["to"] = places.chain(e.value)
        if e.event in ("policy", "verdict", "end"):
            item["verdict"] = VERDICTS.get(e.value, e.value)
        if e.event == "end":
            item["reason"] = _reason(e.rule) if e.rule < NO_NUMBER else "none"
        if e.event == "conntrack":
            item["ctstate"] = CTINFO.get(e.value, e.value)
        yield item


def as_data(walk: Walk, places: Places, names: Names = str) -> dict:
    packet = walk.packet
    head = {} if packet is None else {
        "packet": str(summarise(packet.data)), "bytes": packet.total, "in": names(packet.ifin) if packet.ifin else None,
        "out": names(packet.ifout) if packet.ifout else None, "mark": packet.mark, "wall_ns": packet.wall}
    return head | {"verdict": walk.verdict, "steps": list(events_data(walk, places))}
