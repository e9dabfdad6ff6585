"""Matches that look at a clock or count: against the calendar, and against arithmetic."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone

import pytest

from nfqfw._conntrack import ConntrackTable
from nfqfw._engine import Engine, LoadedProgram
from nfqfw.compile import compile_rulesets
from nfqfw.packets import FORWARD, PacketIn
from nfqfw.plan import hook_mask
from nfqfw.rules import load
from nfqfw.selftest.packets import IPV4, Packet, build

SECOND = 1_000_000_000
UDP = build(Packet("udp", sport=5, dport=9, length=10), IPV4)
UTC = timezone.utc


class Lane:
    """One FORWARD chain; `hit` says whether its only rule counted a packet at a moment."""

    def __init__(self, rule: str):
        self.loaded = LoadedProgram(compile_rulesets([load(f"*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD {rule}\nCOMMIT\n", "x", 2)]))
        self.engine = Engine(ConntrackTable(64), None, attached=hook_mask(frozenset({"FORWARD"})))
        self.engine.load(self.loaded)

    def hit(self, now: int = SECOND, wall: int = 0, **facts) -> bool:
        before = self.count()
        self.engine.one(PacketIn(UDP, FORWARD, 2, 3, **facts), now, wall)
        return self.count() > before

    def count(self) -> int:
        program = self.loaded.program
        row = next(i for i, chain in enumerate(program.rule_chain) if program.chains[chain].chain.name == "FORWARD")
        return self.loaded.counters_list()[row][0]


# rule, what the calendar says of a moment (UTC)
TIMES = (
    ("--weekdays Mon,Wed", lambda t: t.isoweekday() in (1, 3)),
    ("! --weekdays Sat,Sun", lambda t: t.isoweekday() < 6),
    ("--monthdays 1,29,30,31", lambda t: t.day in (1, 29, 30, 31)),
    ("! --monthdays 15", lambda t: t.day != 15),
    ("--timestart 09:00 --timestop 17:30", lambda t: (9, 0, 0) <= (t.hour, t.minute, t.second) <= (17, 30, 0)),
    ("--timestart 22:00 --timestop 05:00", lambda t: (t.hour, t.minute, t.second) >= (22, 0, 0) or (t.hour, t.minute, t.second) <= (5, 0, 0)),
    ("--datestart 2024-02-28T12:00:00 --datestop 2024-03-01", lambda t: datetime(2024, 2, 28, 12, tzinfo=UTC) <= t <= datetime(2024, 3, 1, tzinfo=UTC)),
    ("--timestart 22:00 --timestop 05:00 --contiguous --weekdays Fri",
     lambda t: t.isoweekday() == 5 and t.hour >= 22 or t.isoweekday() == 6 and (t.hour, t.minute, t.second) <= (5, 0, 0)),
)
EDGES = [datetime(2024, 2, 28, 11, 59, 59, tzinfo=UTC), datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC),
         datetime(2024, 3, 1, 0, 0, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC), datetime(2000, 2, 29, 5, 0, 0, tzinfo=UTC),
         datetime(2023, 12, 31, 17, 30, 0, tzinfo=UTC), datetime(2023, 12, 31, 17, 30, 1, tzinfo=UTC), datetime(2026, 11, 27, 22, 0, 0, tzinfo=UTC),
         datetime(2026, 11, 28, 5, 0, 0, tzinfo=UTC), datetime(2026, 11, 28, 5, 0, 1, tzinfo=UTC), datetime(2024, 12, 31, 12, tzinfo=UTC)]


@pytest.mark.parametrize("rule, expected", TIMES, ids=[rule for rule, _ in TIMES])
def test_time_is_the_calendars(rule, expected):
    lane = Lane(f"-m time {rule}")
    rng = random.Random(rule)
    start = datetime(1971, 1, 1, tzinfo=UTC)
    moments = EDGES + [start + timedelta(seconds=rng.randrange(2_000_000_000)) for _ in range(300)]
    answers = set()
    for moment in moments:
        wall = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * SECOND
        answers.add(expected(moment))
        assert lane.hit(wall=wall + 999_999_999) == expected(moment), moment
    assert answers == {True, False}


def test_limit_refills_by_the_jiffy():
    """5/second, burst 3: three at once, then one every 200 ms; spec/iptables.md 4.8."""
    lane = Lane("-m limit --limit 5/sec --limit-burst 3")
    start = 1000 * SECOND
    assert [lane.hit(start) for _ in range(5)] == [True, True, True, False, False]
    assert not lane.hit(start + 196_000_000)
    assert lane.hit(start + 200_000_000) and not lane.hit(start + 200_000_000)
    assert [lane.hit(start + 100 * SECOND) for _ in range(4)] == [True, True, True, False]      # never more than the burst


def test_nth_counts():
    lane = Lane("-m statistic --mode nth --every 3 --packet 0")
    assert [lane.hit() for _ in range(7)] == [True, False, False, True, False, False, True]
    lane = Lane("-m statistic --mode nth --every 3 --packet 2")
    assert [lane.hit() for _ in range(6)] == [False, False, True, False, False, True]


def test_random_keeps_its_probability():
    lane = Lane("-m statistic --mode random --probability 0.25")
    hits = sum(lane.hit() for _ in range(20_000))
    assert abs(hits - 5000) < 5 * (20_000 * 0.25 * 0.75) ** 0.5         # five standard deviations


def test_quota_ends_for_good():
    """A packet that does not fit ends it, even if a smaller one would."""
    lane = Lane(f"-m quota --quota {len(UDP) * 2 + 1}")
    assert [lane.hit() for _ in range(4)] == [True, True, False, False]


@pytest.mark.parametrize("rule, facts, expected", [
    ("-m owner --uid-owner 0-10", {"uid": 5, "gid": 7}, True), ("-m owner --uid-owner 0-10", {"uid": 11, "gid": 7}, False),
    ("-m owner ! --uid-owner 5", {"uid": 5, "gid": 7}, False), ("-m owner --uid-owner 5 --gid-owner 7", {"uid": 5, "gid": 7}, True),
    ("-m owner --uid-owner 5 ! --gid-owner 7", {"uid": 5, "gid": 7}, False), ("-m owner --socket-exists", {"uid": 5, "gid": 7}, True),
    ("-m owner --socket-exists", {}, False), ("-m owner ! --socket-exists", {}, True), ("-m owner ! --uid-owner 5", {}, True),
    ("-m owner --uid-owner 5", {}, False),
])
def test_owner(rule, facts, expected):
    """Without a socket a rule is true if everything it asks is inverted; spec/iptables.md 4.3."""
    assert Lane(rule).hit(**facts) == expected
