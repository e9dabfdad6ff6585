"""Records of running engines -> lines of text: LOG rules, and the walks of traced packets.

Queue threads write records into rings and never wait; one other thread drains them and feeds them here.  Records name rules
by row number and Program generation, so the Programs of the latest loads are remembered.
"""

from collections.abc import Iterator

from nfqfw.compile import Program
from nfqfw.report.logtext import Facts, log_line
from nfqfw.report.records import LOG, PacketFacts, decode
from nfqfw.report.trace import Collector, Names, Places, Walk, as_data, render

GENERATIONS_KEPT = 8                # a record older than so many reloads is not rendered


class Reporter:
    """One per engine: serial numbers of packets are unique within one engine only.

    names(ifindex) -> interface name.  as_data: walks as plain dicts instead of lines.
    """

    def __init__(self, names: Names, as_data: bool = False) -> None:
        self.names = names
        self.as_data = as_data
        self.programs: dict[int, Places] = {}
        self.collector = Collector()

    def add_program(self, program: Program) -> None:
        """Call it before the engines take the Program up."""
        self.programs[program.generation] = Places(program)
        while len(self.programs) > GENERATIONS_KEPT:
            del self.programs[min(self.programs)]

    def feed(self, record: bytes) -> Iterator[tuple[str, list]]:
        """("log", [line]) for a LOG record, ("trace", lines or [dict]) for the record that ends a walk."""
        item = decode(record)
        if item is None:
            return
        if isinstance(item, PacketFacts) and item.kind == LOG:
            yield "log", [self.log(item)]
            return
        walk = self.collector.feed(item)
        if walk is not None:
            yield "trace", self.walk(walk)

    def walk(self, walk: Walk) -> list:
        places = self.programs.get(walk.events[-1].generation)
        if places and self.as_data:
            return [as_data(walk, places, self.names)]
        return render(walk, places, self.names) if places else ["(a packet judged by a ruleset that has been replaced since)"]

    def log(self, item: PacketFacts) -> str:
        places = self.programs.get(item.generation)
        prefix, flags = places.log_options(item.rule) if places else ("", 0)
        facts = Facts(*(self.names(number) if number else "" for number in (item.ifin, item.ifout, item.physin, item.physout)),
                      source_mac=item.hwaddr, mark=item.mark, uid=item.uid, gid=item.gid)
        return log_line(item.family, item.data, facts, prefix, flags)
