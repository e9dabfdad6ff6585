"""Life of entries: unconfirmed ones, confirm and clashes, zones, NAT tuples, limits, expiry, accounting, take-over."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from nfqfw._arena import Arena, ArenaError
from nfqfw._conntrack import ConntrackTable
from nfqfw.conntrack import _drill, listing, stats, tunables
from nfqfw.conntrack.entry import RECORD
from tests.conntrack.packets import CLIENT, CLIENT6, ROUTER, SERVER, SERVER6, icmp, icmp_error, ip, tcp, udp

SECOND = 10**9
NOW = 1000 * SECOND
REASON = {"table_full": 5, "chain_too_long": 6, "insert_failed": 7}


def make(limit=1000, slots=4096, **settings) -> ConntrackTable:
    table = ConntrackTable(limit, slots)
    for name, value in settings.items():
        table.set("nf_conntrack_" + name, value)
    return table


def query(port=5000, back=False, **more) -> bytes:
    return udp(SERVER, 53, CLIENT, port, **more) if back else udp(CLIENT, port, SERVER, 53, **more)


def test_huge_pages_change_nothing():
    """Blocks full of flows are joined, one a call, and every flow is still what it was, here and for who takes over."""
    table = ConntrackTable(80_000, 1 << 17)
    _drill.establish(table, 70_000, 10**12)
    joined = 0
    while table.arena.tend():
        joined += 1
    assert joined == 2 * (70_000 // 32_768)             # two arrays, 32,768 entries of 64 bytes to a block
    assert _drill.classes(table, 70_000, 10**12) == 70_000
    assert _drill.classes(ConntrackTable.attach(table.arena.fd, 80_000), 70_000, 10**12) == 70_000


def test_entry_is_invisible_until_confirmed_but_later_packets_of_the_flow_share_it():
    table = make()
    first = table.process(query(), NOW, confirm=False)
    second = table.process(query(), NOW, confirm=False)
    assert first[:3] == second[:3] == ("NEW", "original", first[2])
    assert table.list() == [] and table.count == 1
    answer = table.process(query(back=True), NOW, confirm=False)
    assert answer[0] == "NEW" and answer[2] != first[2], "an answer cannot be one before its question has passed"


def test_dropped_packets_leave_no_entry():
    table = make()
    number = table.process(query(), NOW, confirm=False)[2]
    table.process(query(), NOW, confirm=False)
    table.release(number)
    assert table.count == 1, "the second packet still holds it"
    table.release(number)
    assert table.count == 0


def test_udp_becomes_a_stream_two_seconds_after_it_began():
    table = make()
    seen = []
    for back, later in ((False, 0), (True, 1), (False, 1.5), (False, 2.5)):
        table.process(query(back=back), NOW + int(later * SECOND))
        entry, = table.list()
        seen.append((entry.timeout, bool(entry.status & 4)))
    assert seen == [(30, False), (30, False), (30, False), (120, True)]


def test_one_way_udp_stays_new():
    table = make()
    assert {table.process(query(), NOW + n * SECOND)[0] for n in range(60)} == {"NEW"}


def test_expired_entry_is_absent_at_once():
    table = make()
    table.process(query(), NOW)
    assert table.process(query(back=True), NOW + 29 * SECOND)[0] == "ESTABLISHED"
    assert table.process(query(back=True), NOW + 29 * SECOND + 30 * SECOND)[0] == "NEW"


def test_collector_ends_what_is_over():
    table = make()
    for port in range(100):
        table.process(query(2000 + port), NOW)
    table.expire(NOW + 20 * SECOND)
    assert table.count == 100
    table.expire(NOW + 31 * SECOND, budget=50)
    assert 40 <= table.count <= 60, "bounded work per call"
    table.expire(NOW + 31 * SECOND)
    assert table.count == 0


def test_zones_are_part_of_the_key():
    table = make()
    plain = table.process(query(), NOW)[2]
    seven = table.process(query(), NOW, zone=7)[2]
    assert plain != seven and len(table.list()) == 2
    assert table.process(query(back=True), NOW, zone=7)[:3] == ("ESTABLISHED", "reply", seven)
    assert table.process(query(back=True), NOW)[:3] == ("ESTABLISHED", "reply", plain)


def test_zone_of_one_direction():
    table = make()
    number = table.process(query(), NOW, zone=8, zone_dir=1)[2]
    assert "zone-orig=8" in listing.line(table.list()[0], NOW)
    assert table.process(query(back=True), NOW)[:3] == ("ESTABLISHED", "reply", number)
    assert table.process(query(), NOW, zone=8, zone_dir=1)[:3] == ("ESTABLISHED", "original", number)
    assert table.process(query(), NOW)[0] == "NEW"


def test_icmp_error_belongs_to_the_quoted_flow():
    table = make()
    number = table.process(query(), NOW)[2]
    error = icmp_error(ROUTER, CLIENT, 3, 3, query()[:24])
    assert table.process(error, NOW)[:3] == ("RELATED", "reply", number)
    assert table.process(icmp_error(ROUTER, SERVER, 3, 3, query()[:24]), NOW)[0] == "INVALID", "sent to somebody else"
    assert table.process(icmp_error(ROUTER, CLIENT, 3, 3, query(6000)[:24]), NOW)[0] == "INVALID", "of no flow"
    assert table.list()[0].timeout == 30 and table.list()[0].status & 2 == 0, "an error is no answer"


def test_error_for_a_packet_that_is_not_confirmed_yet():
    table = make()
    number = table.process(query(), NOW, confirm=False)[2]
    assert table.process(icmp_error(ROUTER, CLIENT, 11, 0, query()), NOW, hook=3, local=True, confirm=False)[:3] == ("RELATED", "reply", number)


@pytest.mark.parametrize("kind", [130, 131, 132, 133, 134, 135, 136, 143, 151, 152])
def test_neighbour_discovery_and_listeners_are_untracked(kind):
    table = make()
    assert table.process(icmp(CLIENT6, SERVER6, kind), NOW)[0] == "UNTRACKED" and table.count == 0


def test_nat_reply_tuple_finds_the_flow_and_clashes_are_refused():
    table = make()
    from nfqfw.conntrack.command import run

    assert run("-I -p tcp -s 1.1.1.1 -d 2.2.2.2 --sport 10 --dport 20 --state ESTABLISHED -t 50 -n 9.9.9.9".split(), table, now_ns=NOW).code == 0
    assert table.process(tcp("2.2.2.2", 20, "9.9.9.9", 10, ".", seq=1, ack=1), NOW)[:2] == ("ESTABLISHED", "reply")
    # 9.9.9.9:10 -> 2.2.2.2:20 would have the same answers: a new connection cannot be confirmed
    assert table.process(tcp("9.9.9.9", 10, "2.2.2.2", 20, "S", seq=1), NOW) == ("NEW", "original", 2, REASON["insert_failed"])
    assert table.count == 1 and table.stats()["insert_failed"] == 1


def test_udp_that_crossed_in_flight_becomes_one_flow():
    """spec/conntrack.md 1.8 (a): both sides sent first; the later confirm adopts the entry that is there."""
    table = make(acct=1)
    table.process(query(), NOW, confirm=False)
    assert table.process(query(back=True), NOW)[0] == "NEW"
    assert table.process(query(), NOW)[::3] == ("NEW", 0)
    entry, = table.list()
    assert entry.original.src == SERVER and entry.status & 2 and table.stats()["clash_resolve"] == 1
    assert (entry.original.packets, entry.reply.packets) == (1, 2), "the loser's packets are counted in the other direction"


def test_tcp_that_crossed_in_flight_is_refused():
    table = make()
    syn, other = (tcp(CLIENT, 1, SERVER, 2, "S", seq=1), tcp(SERVER, 2, CLIENT, 1, "S", seq=1))
    table.process(syn, NOW, confirm=False)
    assert table.process(other, NOW)[3] == 0
    assert table.process(syn, NOW)[3] == REASON["insert_failed"]


def test_limit_drops_the_unassured_first_and_then_the_packet():
    table = make(limit=64, slots=1000)
    for port in range(64):
        table.process(tcp(CLIENT, 1000 + port, SERVER, 80, ".", seq=1, ack=1), NOW)
        for back in (True, False):
            ends = (SERVER, 80, CLIENT, 1000 + port) if back else (CLIENT, 1000 + port, SERVER, 80)
            table.process(tcp(*ends, ".", seq=1, ack=1), NOW)
    assert all(entry.status & 4 for entry in table.list())
    assert table.process(query(), NOW)[3] == REASON["table_full"] and table.count == 64
    assert table.stats()["drop"] == 1


def test_accounting_counts_ip_bytes_per_direction():
    table = make(acct=1)
    table.process(query(data=b"12345"), NOW)
    table.process(query(back=True, data=b"1234567"), NOW)
    entry, = table.list()
    assert (entry.original.packets, entry.original.bytes, entry.reply.packets, entry.reply.bytes) == (1, 33, 1, 35)


def test_settings_have_ranges():
    table = make()
    for name, value in (("nf_conntrack_tcp_loose", 2), ("nf_conntrack_udp_timeout", -1), ("nf_conntrack_nothing", 1), ("nf_conntrack_count", 1)):
        with pytest.raises(ValueError):
            table.set(name, value)
    table.set("nf_conntrack_udp_timeout", 5)
    table.process(query(), NOW)
    assert table.list()[0].timeout == 5


def test_a_raised_limit_brings_a_larger_index():
    table = ConntrackTable(1000, 200_000)
    _drill.establish(table, 900, NOW)
    table.set("nf_conntrack_max", 150_000)
    assert table.get("nf_conntrack_buckets") * 5 >= 150_000
    _drill.establish(table, 140_000, NOW)
    assert table.count == 140_000 and table.stats()["chaintoolong"] == 0 and table.stats()["early_drop"] == 0
    assert _drill.classes(table, 140_000, NOW) == 140_000


def test_settings_are_those_of_the_kernel():
    path = "/proc/sys/net/netfilter"
    if not os.path.exists(path + "/nf_conntrack_max"):
        pytest.skip("this kernel has no conntrack")
    kernel = {name for name in os.listdir(path) if name.startswith("nf_conntrack_")}
    assert kernel - set(make().tunables()) <= {"nf_conntrack_helper"}


def test_tables_and_c_enums_agree():
    text = open("nfqfw/conntrack/table.pxd").read()
    t_names = text.split("T_ACCT = 0")[1].split("T_COUNT")[0].split()
    assert len(t_names) + 1 == len(tunables.TUNABLES)
    assert tunables.TUNABLES[tunables.SLOT["nf_conntrack_udp_timeout"]].name.endswith("udp_timeout")
    assert 1 + t_names.index("T_UDP") == tunables.SLOT["nf_conntrack_udp_timeout"]
    assert 1 + t_names.index("T_FRAG6_LOW") == tunables.SLOT["nf_conntrack_frag6_low_thresh"]
    s_names = text.split("S_FOUND = 0")[1].split("S_COUNT")[0]
    assert 1 + len([line for line in s_names.splitlines() if line.strip().startswith("S_")]) == len(stats.STATS)


def test_record_layout():
    table = make()
    table.process(udp(CLIENT6, 1, SERVER6, 2), NOW)
    entry, = table.list()
    assert (entry.original.src, entry.reply.dport, entry.family, entry.proto) == (CLIENT6, 1, 10, 17) and RECORD.size % 8 == 0


def test_generic_protocol_and_events():
    table = make()
    table.listen()
    table.process(ip(CLIENT, SERVER, 89, b"12345678"), NOW)
    table.process(ip(SERVER, CLIENT, 89, b"12345678"), NOW)
    table.flush()
    assert [event.kind for event in table.events()] == ["NEW", "UPDATE", "DESTROY"]


# ---- a new process takes the flows over ----------------------------------------------------------------------------------

def test_attach_continues_the_flows():
    table = make(acct=1)
    numbers = {table.process(query(2000 + n), NOW)[2] for n in range(50)}
    for six in range(20):
        numbers.add(table.process(tcp(CLIENT6, 3000 + six, SERVER6, 80, "S", seq=1), NOW)[2])
    table.process(query(9999), NOW, confirm=False)
    before = sorted((e.number, e.id, e.original.sport, e.mark) for e in table.list())
    other = ConntrackTable.attach(table.arena.fd)
    after = sorted((e.number, e.id, e.original.sport, e.mark) for e in other.list(now_ns=NOW))
    assert before == after and other.count == 70, "unconfirmed entries do not survive"
    assert other.process(query(2007, back=True), NOW)[0] == "ESTABLISHED"
    assert other.process(query(8000), NOW)[2] not in numbers


def test_attach_refuses_what_is_no_arena():
    fd = os.memfd_create("x")
    with pytest.raises(ArenaError):
        Arena.attach(fd)
    os.ftruncate(fd, 1 << 22)
    with pytest.raises(ArenaError):
        Arena.attach(fd)
    os.close(fd)


@pytest.mark.parametrize("round_", range(int(os.environ.get("NFQFW_KILLS", "20"))))
def test_kill_at_any_moment_leaves_whole_flows(round_):
    """A child works on the table and is killed; every flow that it had confirmed is there once, with its own tuple and mark."""
    table = ConntrackTable(20_000, 40_000)
    child = os.fork()
    if child == 0:
        try:
            r = random.Random(round_)
            for n in range(10**9):
                port = 1000 + r.randrange(20_000)
                table.process(tcp(CLIENT, port, SERVER, 80, r.choice(("S", "R", "S", "S.")), seq=n), NOW)
                if n % 7 == 0:
                    table.process(tcp(SERVER, 80, CLIENT, port, "S.", seq=1, ack=n), NOW)
        finally:
            os._exit(1)
    time.sleep(0.05 + 0.1 * random.Random(round_).random())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    other = ConntrackTable.attach(table.arena.fd, 20_000)
    entries = other.list(now_ns=NOW)
    assert entries and len(entries) == other.count
    assert len({entry.original.sport for entry in entries}) == len(entries), "none twice"
    for entry in entries:
        a, b = entry.original, entry.reply
        assert (a.src, a.dst, a.dport, b.src, b.dst, b.sport) == (CLIENT, SERVER, 80, SERVER, CLIENT, 80) and a.sport == b.dport
        assert other.process(tcp(SERVER, 80, CLIENT, a.sport, "R", seq=0), NOW, confirm=False)[0] in ("ESTABLISHED", "INVALID")


def test_a_table_can_end_after_the_modules():
    """When the interpreter ends, the last table may outlive what `os` held: nothing is printed, and its memory is given back."""
    code = "import os; from nfqfw._conntrack import ConntrackTable; t = ConntrackTable(64); fd = t.arena.fd; os.close = None; del t; os.fstat(fd)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.count("\n") == 3 and "Bad file descriptor" in done.stderr      # the traceback of fstat, and nothing else
