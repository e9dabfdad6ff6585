"""Targets whose effect lies outside the packet: what LOG and TRACE record, what NOTRACK and CT do to tracking."""

from __future__ import annotations

import pytest

from nfqfw._conntrack import ConntrackTable
from nfqfw._engine import Engine, LoadedProgram
from nfqfw.compile import compile_rulesets
from nfqfw.packets import CLASSES, PREROUTING, PacketIn
from nfqfw.plan import hook_mask
from nfqfw.report.records import LOG, PacketFacts, TraceEvent, decode
from nfqfw.rules import load
from nfqfw.selftest.packets import IPV4, IPV6, Packet, build

NOW = 10**12
FAMILIES = (IPV4, IPV6)


def crossed(family: int, rule: str):
    """(decision, records, table) of two UDP packets, of which the rule in raw PREROUTING names the first (port 53)."""
    text = (f"*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp -m udp --dport 53 {rule}\nCOMMIT\n"
            "*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -m conntrack --ctstate NEW,UNTRACKED\nCOMMIT\n")
    table = ConntrackTable(64)
    engine = Engine(table, None, attached=hook_mask(frozenset({"PREROUTING"})))
    loaded = LoadedProgram(compile_rulesets([load(text, "x", family)]))
    engine.load(loaded)
    decisions = [engine.one(PacketIn(build(Packet("udp", sport=7, dport=port, length=9), family), PREROUTING, 2), NOW, NOW) for port in (53, 54)]
    records = [decode(record) for record in engine.take_records()]
    counters = [packets for packets, _ in loaded.counters_list()]
    return [CLASSES[decision.ctinfo] for decision in decisions], records, counters, loaded.program


@pytest.mark.parametrize("family", FAMILIES)
def test_log_records_the_packet_and_its_rule(family):
    classes, records, counters, program = crossed(family, '-j LOG --log-prefix "seen "')
    (record,) = records
    assert isinstance(record, PacketFacts) and record.kind == LOG and record.data[-9 - 8:][:4] == bytes((0, 7, 0, 53))
    assert "seen " in program.rules[record.rule].target.text()
    assert classes == ["NEW", "NEW"]                        # and the packet went on


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rule", ["-j NOTRACK", "-j CT --notrack"])
def test_notrack_keeps_the_packet_from_tracking(family, rule):
    classes, records, _, _ = crossed(family, rule)
    assert classes == ["UNTRACKED", "NEW"] and not records


@pytest.mark.parametrize("family", FAMILIES)
def test_trace_records_the_walk_of_the_packet_alone(family):
    _, records, _, _ = crossed(family, "-j TRACE")
    events = [record for record in records if isinstance(record, TraceEvent)]
    assert len({record.serial for record in records}) == 1
    assert [event.event for event in events if event.event in ("rule", "match", "policy", "end")][-1] == "end"
