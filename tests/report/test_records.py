"""Records of the ring: layouts as _trace.pxd declares them; whatever bytes come, decoding gives a value or None."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfqfw.report import records
from nfqfw.report.live import Reporter
from nfqfw.report.records import LOG, PACKET, PACKET_RECORD, TRACE, TRACE_RECORD, PacketFacts, TraceEvent, decode
from nfqfw.report.trace import LINES, Collector

PXD = (Path(__file__).parents[2] / "nfqfw" / "_trace.pxd").read_text()


@pytest.mark.parametrize("struct, layout", [("TraceRecord", TRACE_RECORD), ("PacketRecord", PACKET_RECORD)])
def test_layouts_are_those_of_the_structs(struct, layout):
    size, form = re.search(rf'cdef struct {struct}:\s+# (\d+) bytes; report/ unpacks "([^"]+)"', PXD).groups()
    assert (layout.size, layout.format) == (int(size), form)


def test_every_event_has_its_name_in_the_order_of_the_enum():
    numbers = dict((name.lower(), int(value)) for name, value in re.findall(r"TRACE_([A-Z]+) = (\d+)", PXD))
    assert [name for name, _ in sorted(numbers.items(), key=lambda item: item[1])] == list(records.EVENTS[1:])
    assert set(numbers) <= set(LINES)                       # each can be printed


def trace(serial: int, event: int, **fields) -> bytes:
    f = {"hook": 2, "table": 3, "chain": 0, "rule": 0, "test": 0, "value": 0, "mark": 0, "ctinfo": 0, "generation": 1} | fields
    return TRACE_RECORD.pack(TRACE, event, f["hook"], f["table"], serial, f["chain"], f["rule"], f["test"], f["value"], f["mark"],
                             f["ctinfo"], f["generation"])


def packet(serial: int, kind: int = PACKET, data: bytes = b"\x45") -> bytes:
    return PACKET_RECORD.pack(kind, 2, 2, 3, serial, 1, 2, 1, 3, 4, 0, 0, 7, 60, len(data), 0, 1000, 100, 2 | 4, 0, 0, bytes(8)) + data


def test_a_record_becomes_a_value():
    event = decode(trace(5, 14, value=1, rule=0))
    assert isinstance(event, TraceEvent) and (event.event, event.serial, event.value) == ("end", 5, 1)
    facts = decode(packet(5, LOG, b"\x45abc"))
    assert isinstance(facts, PacketFacts) and (facts.data, facts.mark, facts.uid, facts.gid, facts.hwaddr) == (b"\x45abc", 7, 1000, 100, b"")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_none(data):
    assert decode(data) is None or isinstance(decode(data), (TraceEvent, PacketFacts))


def test_walks_of_several_packets_do_not_mix():
    collector = Collector()
    for record in (packet(1), packet(2), trace(2, 1), trace(1, 1), trace(1, 3)):
        assert collector.feed(decode(record)) is None
    first = collector.feed(decode(trace(1, 14, value=1)))
    second = collector.feed(decode(trace(2, 14, value=0)))
    assert [e.event for e in first.events] == ["step", "match", "end"] and first.verdict == "ACCEPT"
    assert [e.event for e in second.events] == ["step", "end"] and second.verdict == "DROP"


def test_a_walk_without_its_first_record_and_of_an_old_ruleset_is_said_to_be_so():
    reporter = Reporter(str)
    ((kind, lines),) = reporter.feed(trace(9, 14))
    assert kind == "trace" and lines == ["(a packet judged by a ruleset that has been replaced since)"]


def test_unfinished_walks_are_bounded(monkeypatch):
    monkeypatch.setattr("nfqfw.report.trace.WALKS_MAX", 10)
    collector = Collector()
    for serial in range(100):
        collector.feed(decode(packet(serial) if serial % 2 else trace(serial, 1)))
    assert len(collector.walks) == 10 and min(collector.walks) == 90
