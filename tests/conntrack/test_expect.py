"""Expectations that no command line makes: PERMANENT, INACTIVE, time, bounds, zones, and a process that takes the table over."""

import errno
import os
import struct

import pytest

from nfqfw._conntrack import ConntrackTable
from nfqfw.conntrack.entry import Entry, Side
from nfqfw.conntrack.expectation import INACTIVE, PERMANENT, RECORD, USERSPACE, Expectation, line
from nfqfw.ext import helpers
from nfqfw.limits import EXPECT_SLOTS
from nfqfw.selftest import kernel as twin
from nfqfw.selftest.flow import parse_flow
from nfqfw.selftest.netlink import NLM_F_ACK, attribute, message
from nfqfw.selftest.ours import OurTwin
from nfqfw.selftest.outcome import Outcome, normal_listing
from nfqfw.selftest.packets import address, packed
from tests.conntrack.packets import udp
from tests.engine.support import Firewall

RULES = """*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p udp --dport 69 -j CT --helper tftp
-A PREROUTING -p udp --dport 10080 -j CT --helper amanda
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -m conntrack --ctstate INVALID -j DROP
COMMIT
"""
CLIENT, ROUTER = "10.0.1.2", "10.0.1.1"
S = 10**9


@pytest.fixture
def firewall():
    f = Firewall(RULES, hooks=("PREROUTING", "INPUT", "FORWARD", "OUTPUT"))
    master(f, 5000)
    return f


def master(f, port: int, to: int = 69) -> None:
    for hook in (0, 1):
        f.cross(udp(CLIENT, port, ROUTER, to), hook, "eth0")


def wanted(port: int, *, flags: int = 0, client: int = 5000, to: int = 69, source: str = CLIENT) -> Expectation:
    return Expectation(2, 17, Side(source, ROUTER, 0, port), Side("255.255.255.255", "255.255.255.255"), Side(CLIENT, ROUTER, client, to), flags=flags)


def klass(f, port: int, source_port: int = 9) -> str:
    return f.table.process(udp(CLIENT, source_port, ROUTER, port), f.now, hook=0)[0]


def test_permanent_stays(firewall):
    firewall.table.expect(wanted(7000, flags=PERMANENT), now_ns=firewall.now)
    assert [klass(firewall, 7000, port) for port in (1, 2)] == ["RELATED", "RELATED"]
    assert "PERMANENT" in line(firewall.table.expectations(now_ns=firewall.now)[0])


def test_inactive_is_fulfilled_by_nothing(firewall):
    firewall.table.expect(wanted(7000, flags=INACTIVE), now_ns=firewall.now)
    assert klass(firewall, 7000) == "NEW" and firewall.table.expect_count == 1


def test_time_is_the_policys_and_over_at_once(firewall):
    firewall.table.expect(wanted(7000), now_ns=firewall.now)
    assert firewall.table.expectations(now_ns=firewall.now + 299 * S)[0].timeout == 1
    assert firewall.table.expectations(now_ns=firewall.now + 300 * S) == []
    firewall.table.change(*master_of(firewall), timeout=1000)
    assert firewall.table.process(udp(CLIENT, 9, ROUTER, 7000), firewall.now + 301 * S)[0] == "NEW"
    firewall.table.expire(firewall.now + 301 * S)
    assert firewall.table.expect_count == 0


def master_of(f) -> tuple[int, int]:
    entry = next(e for e in f.table.list(now_ns=f.now) if e.original.dport == 69)
    assert (entry.helper, entry.master) == ("tftp", 0)
    return entry.number, entry.id


def test_expect_max_bounds_the_table(firewall):
    firewall.table.set("nf_conntrack_expect_max", 2)
    for port in (5001, 5002):
        master(firewall, port)
    for port in (5000, 5001):
        firewall.table.expect(wanted(port + 2000, client=port), now_ns=firewall.now)
    with pytest.raises(OSError) as refused:
        firewall.table.expect(wanted(7002, client=5002), now_ns=firewall.now)
    assert refused.value.errno == errno.EMFILE and firewall.table.expect_count == 2
    with pytest.raises(ValueError, match="more than this table has room for"):
        firewall.table.set("nf_conntrack_expect_max", EXPECT_SLOTS)


def test_numbers_are_used_again(firewall):
    """More expectations one after the other than the table has room for."""
    for round_ in range(EXPECT_SLOTS + 10):
        firewall.table.expect(wanted(7000 + round_ % 100), now_ns=firewall.now)
        assert firewall.table.expect_count == 1             # tftp has one at a time
    stats = firewall.table.stats()
    assert (stats["expect_create"], stats["expect_delete"]) == (EXPECT_SLOTS + 10, EXPECT_SLOTS + 9)


def test_a_policy_of_four_lets_the_oldest_go(firewall):
    master(firewall, 5000, 10080)
    for port in range(1, 7):
        firewall.table.expect(wanted(port, to=10080), now_ns=firewall.now)
    assert sorted(e.side.dport for e in firewall.table.expectations(now_ns=firewall.now)) == [3, 4, 5, 6]


def test_children_count_on_the_master_and_survive_it(firewall):
    firewall.table.expect(wanted(7000), now_ns=firewall.now)
    assert klass(firewall, 7000) == "RELATED"
    number, ident = master_of(firewall)
    use = {e.original.dport: e.use for e in firewall.table.list(now_ns=firewall.now)}
    assert use == {69: 2, 7000: 1}
    firewall.table.delete(number, ident)
    child, = firewall.table.list(now_ns=firewall.now)
    assert child.status & 1 and child.master == number
    assert firewall.table.delete(child.number, child.id)    # its master's number may be another's by now: nothing to give back


def test_who_takes_over_finds_the_living_ones(firewall):
    firewall.table.expect(wanted(7000), now_ns=firewall.now)
    other = ConntrackTable.attach(firewall.table.arena.fd)
    found, = other.expectations(now_ns=firewall.now)
    assert (found.side.dport, found.master.dport, found.helper) == (7000, 69, helpers.number_of("tftp"))
    assert other.process(udp(CLIENT, 9, ROUTER, 7000), firewall.now)[0] == "RELATED" and other.expect_count == 0
    firewall.table.flush()
    assert ConntrackTable.attach(firewall.table.arena.fd).expect_count == 0


def test_half_written_and_orphaned_ones_are_thrown_away(firewall):
    firewall.table.expect(wanted(7000), now_ns=firewall.now)
    number, ident = master_of(firewall)
    table = ConntrackTable.attach(firewall.table.arena.fd)
    table.delete(number, ident)
    assert table.expect_count == 0


def test_injected_masters_have_no_helper():
    table = ConntrackTable(100, 4096)
    table.insert(Entry(0, 0, 2, 17, 0, 100, 0, 0, Side(CLIENT, ROUTER, 5000, 69), Side(ROUTER, CLIENT, 69, 5000)), now_ns=S)
    with pytest.raises(NotImplementedError):
        table.expect(wanted(7000), now_ns=S)
    with pytest.raises(LookupError):
        table.expect(wanted(7000, client=5001), now_ns=S)


def test_record_layout():
    assert RECORD.size == 24 + 128 + 40


# ---- beside the kernel: flags, which no tool can say -------------------------------------------------------------------

EXPECTATIONS, NEW_EXPECTATION, CREATE = 2 << 8, 0, 0x600         # NFNL_SUBSYS_CTNETLINK_EXP; NLM_F_CREATE | NLM_F_EXCL
FLAG_RULES = """*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p udp --dport 69 -j CT --helper tftp
-A PREROUTING -p udp --dport 5060 -j CT --helper sip
COMMIT
"""
STORY = (
    "client C0:5000>S0:69 udp 1", "client C0:5060>S0:5060 udp 1",
    # PERMANENT: it is fulfilled again and again, and stays; both sources, and its time goes on
    ("permanent", 5000, 69, 0, PERMANENT, 7000), "server S0:1>C0:7000 udp 1", "server S0:2>C0:7000 udp 1", "client C0:7000>S0:1 udp 1",
    # a policy of one: the next puts it out, whatever its flags
    ("inactive", 5000, 69, 0, INACTIVE, 7001), "server S0:3>C0:7000 udp 1", "server S0:3>C0:7001 udp 1", "server S0:4>C0:7001 udp 1",
    ("both", 5000, 69, 0, PERMANENT | INACTIVE, 7002), "server S0:5>C0:7002 udp 1", "server S0:6>C0:7001 udp 1",
    # the same once more is there already; one that a packet of an INACTIVE one would fulfil is refused
    ("again", 5000, 69, 0, 0, 7002), ("clash", 5060, 5060, 1, 0, 7002),
    # classes of sip: audio has room for four
    *(("audio", 5060, 5060, 1, flags, port) for port, flags in ((7010, PERMANENT), (7011, INACTIVE), (7012, 0), (7013, 0), (7014, 0))),
    ("signalling", 5060, 5060, 0, PERMANENT | INACTIVE, 7020), "server S0:7>C0:7010 udp 1", "server S0:7>C0:7011 udp 1",
    "server S0:7>C0:7012 udp 1", "server S0:7>C0:7012 udp 1", "server S0:8>C0:7012 udp 1", "server S0:7>C0:7020 udp 1",
    # a flag that only the kernel itself sets is taken off
    ("userspace", 5060, 5060, 2, USERSPACE | PERMANENT, 7030), "server S0:9>C0:7030 udp 1", "server S0:10>C0:7030 udp 1",
)
QUESTIONS = (*(f"{command} {family}" for family in ("-f ipv4", "-f ipv6") for command in ("-L expect", "-L expect -o xml")), "--proc expect", "-L -u EXPECTED")


def ask_kernel(ct, family: int, case) -> str:
    """Make an expectation by netlink; what the kernel says to it."""
    _, sport, dport, klass, flags, port = case

    def ends(src: str, dst: str, one: int, other: int) -> bytes:
        first = 1 if family == 2 else 3
        return (attribute(0x8001, attribute(first, packed(src, family)) + attribute(first + 1, packed(dst, family)))
                + attribute(0x8002, attribute(1, b"\x11") + attribute(2, struct.pack(">H", one)) + attribute(3, struct.pack(">H", other))))

    whole = "255.255.255.255" if family == 2 else "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
    body = (attribute(0x8001, ends("C0", "S0", sport, dport)) + attribute(0x8002, ends("S0", "C0", 0, port))
            + attribute(0x8003, ends(whole, whole, 0, 0xffff)) + attribute(4, struct.pack(">I", 9)) + attribute(8, struct.pack(">I", flags))
            + attribute(9, struct.pack(">I", klass)))
    try:
        list(ct._ask(message(EXPECTATIONS | NEW_EXPECTATION, CREATE | NLM_F_ACK, family, 0, body)))
    except OSError as error:
        return os.strerror(error.errno)
    return ""


def ask_table(table, family: int, case, now: int) -> str:
    _, sport, dport, klass, flags, port = case
    client, server = address("C0", family), address("S0", family)
    whole = "255.255.255.255" if family == 2 else "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
    try:
        table.expect(Expectation(family, 17, Side(server, client, 0, port), Side(whole, whole), Side(client, server, sport, dport), flags=flags,
                                 klass=klass), now_ns=now)
    except OSError as error:
        return error.strerror
    return ""


@pytest.mark.netns
@pytest.mark.skipif(bool(twin.missing("conntrack")), reason=f"kernel twin: {twin.missing('conntrack')}")
@pytest.mark.parametrize("family", [2, 10], ids=["v4", "v6"])
def test_flags_beside_the_kernel(family):
    case = parse_flow("\n".join(f"+0 {part}" for part in STORY if isinstance(part, str)), "flags")[family == 10]
    steps = iter(case.steps)
    case.steps, case.rules = [], FLAG_RULES
    with twin.KernelTwin(classes=True) as kernel, OurTwin(classes=True) as ours, kernel.inside():
        kernel._restore(family, FLAG_RULES)
        ours.run(case)
        for part in STORY:
            theirs, mine = Outcome(), Outcome()
            ours.now += 10**5
            if isinstance(part, str):
                step = next(steps)
                kernel._step(case, step, theirs)
                ours._step(case, step, mine)
                assert mine.classes == theirs.classes, part
            else:
                assert ask_table(ours.table, family, part, ours.now) == ask_kernel(kernel.ct, family, part), part
            for question in QUESTIONS:
                said = ours._command(question.split(), "conntrack")
                assert normal_listing(said.code, said.stdout + said.stderr) == kernel._command(question), (part, question)
