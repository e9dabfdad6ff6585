"""Every entry of limits.py: where a test holds it, and the tests of those that no other file touches."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.packet import Raw

from nfqfw import limits
from nfqfw._arena import Arena
from nfqfw._conntrack import ConntrackTable
from nfqfw.cli.settings import chosen
from nfqfw.conntrack.follow import EventHub
from nfqfw.errors import NfqfwError
from nfqfw.ext.lowering import IPV4
from nfqfw.packets import FORWARD
from nfqfw.queue.capture import Capture, CaptureError
from nfqfw.queue.netfilterqueue import limits as limits_of_package
from nfqfw.rules import load
from tests.engine.support import SECOND, Firewall
from tests.engine.test_defrag import firewall as defrag_firewall
from tests.engine.test_defrag import pieces6
from tests.engine.test_walk import rules

ROOT = Path(__file__).parents[1]
NAMES = [name for name in vars(limits) if name.isupper()]
HERE = "tests/test_limits.py"
DECLARED = re.compile(r"^[^#\n]*?(\d+)\D*# limits\.([A-Z0-9_]+)( \+ 1)?", re.M)

# name -> (file, what in it holds the bound: the name itself, or what the real tool and the kernel say there)
HELD = {
    "CHAIN_NAME_BYTES": ("tests/rules/errors.txt", "must be under 29 chars"),
    "IFACE_NAME_BYTES": ("tests/rules/errors.txt", "must be shorter than 16 characters"),
    "COMMENT_BYTES": (HERE, "test_comment"),
    "LOG_PREFIX_BYTES": ("tests/ext/LOG.t", f'--log-prefix {"a" * 36} ; -j LOG --log-prefix {"a" * 29} ;'),
    "MULTIPORT_SLOTS": ("tests/ext/multiport.t", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16 ; too many ports specified"),
    "RESTORE_LINE_BYTES": (HERE, "test_restore_line"),
    "RULES_MAX": ("tests/rules/test_bounds.py", "RULES_MAX"),
    "EDIT_RULES": ("tests/engine/test_delta.py", "EDIT_RULES"),
    "EDIT_RUNS": ("tests/engine/test_delta.py", "EDIT_RUNS"),
    "EDIT_SETTLE_SECONDS": ("tests/engine/test_delta.py", "EDIT_SETTLE_SECONDS"),
    "MISTAKES_MAX": ("tests/rules/test_bounds.py", "MISTAKES_MAX"),
    "RULES_FILE_BYTES": ("tests/daemon/test_wire.py", "RULES_FILE_BYTES"),
    "IPV6_HEADERS_MAX": (HERE, "test_extension_headers"),
    "RECENT_ADDRESSES": ("tests/ext/test_tables.py", "test_recent_holds_a_hundred_addresses"),
    "RECENT_STAMPS": ("tests/ext/test_tables.py", "and 32 at least"),
    "HASHLIMIT_MOST": (HERE, "test_hashlimit_table"),
    "HASHLIMIT_BUCKETS": (HERE, "test_hashlimit_table"),
    "CONNLIMIT_ENTRIES": (HERE, "test_connlimit_table"),
    "CONNLIMIT_EMPTY": ("tests/engine/test_named.py", "CONNLIMIT_EMPTY"),
    "QUEUES_MAX": ("tests/test_doors.py", "shared by 65"),
    "QUEUE_LENGTH": ("tests/engine/test_fragment_flood.py", "QUEUE_LENGTH"),
    "BATCH_PACKETS": ("tests/queue/test_messages.py", "BATCH_PACKETS"),
    "NETFILTERQUEUE_BYTES": (HERE, "test_length_of_the_package"),
    "PAYLOAD_BYTES": ("tests/queue/test_messages.py", "PAYLOAD_BYTES"),
    "OUTBOX_PACKETS": (HERE, "test_replies_of_a_batch"),
    "SWAP_SECONDS": ("tests/daemon/test_worker.py", "test_load_waits_for_the_batch_in_progress"),
    "RING_RECORDS": (HERE, "test_events_of_a_follower"),
    "CAPTURE_RECORD_BYTES": (HERE, "test_capture_record"),
    "CONNTRACK_MAX": (HERE, "test_flow_table"),
    "CONNTRACK_SLOTS_MAX": (HERE, "test_flow_table"),
    "SETTINGS_FILE_BYTES": (HERE, "test_settings_file"),
    "POLICY_FILE_BYTES": ("tests/conntrack/test_timeouts.py", "POLICY_FILE_BYTES"),
    "EXPECT_SLOTS": ("tests/conntrack/test_expect.py", "EXPECT_SLOTS"),
    "TIMEOUT_POLICIES": ("tests/conntrack/test_timeouts.py", "TIMEOUT_POLICIES"),
    "FLOW_PATHS": ("tests/engine/test_flow_cache.py", "FLOW_PATHS"),
    "NAT_ATTEMPTS": ("tests/nat/test_against_kernel.py", "exhaust"),
    "FRAGMENTS_PER_DATAGRAM": ("tests/engine/test_defrag.py", "[2] * 64 + [0, 0]"),
    "FRAGMENT_BYTES": ("tests/engine/test_fragment_flood.py", "FRAGMENT_BYTES"),
    "FRAGMENT_TIMEOUT_V4": (HERE, "test_fragments_wait"),
    "FRAGMENT_TIMEOUT_V6": (HERE, "test_fragments_wait"),
    "CONTROL_HEAD_BYTES": ("tests/daemon/test_wire.py", "CONTROL_HEAD_BYTES"),
    "CONTROL_CLIENTS": ("tests/daemon/test_server.py", "CONTROL_CLIENTS"),
    "CONTROL_REQUEST_SECONDS": ("tests/daemon/test_server.py", "CONTROL_REQUEST_SECONDS"),
    "IDLE_CHECK_SECONDS": ("tests/daemon/test_service.py", "IDLE_CHECK_SECONDS"),
}
# name -> why no test asks for it
NOT_HELD = {
    "AHEAD_RULES": "what is looked up ahead changes nothing but time, tests/engine/test_ahead.py",
    "EDIT_FROM": "which way an edit is made changes nothing but time, tests/engine/test_delta.py",
    "EDIT_TESTS": "room for edits beside EDIT_RULES: what does not fit is compiled whole, which EDIT_RULES shows",
    "EDIT_BYTES": "as EDIT_TESTS",
    "RECEIVE_BUFFER_BYTES": "what the kernel is asked for; how much it gives depends on the host's memory",
    "DRAIN_SECONDS": "how long an end waits: only a timed test could tell",
    "RECORDS_SECONDS": "how often a ring is emptied: only a timed test could tell",
    "INFLIGHT_MAX": "131,072 packets of one queue under way; the C constant is compared, the refusal is that of a full table of any size",
    "NAT_ATTEMPTS_LEAST": "how a search narrows; that it ends, and when, is NAT_ATTEMPTS",
    "NAT_EVICT_ATTEMPTS": "as NAT_ATTEMPTS_LEAST",
    "NAT_SOURCE_WALK": "a source's connections beyond it only miss a mapping that could be shared",
    "FRAGMENT_OVERHEAD": "how FRAGMENT_BYTES counts; the C constant is compared",
    "CONTROL_BACKLOG": "the kernel's listen queue",
    "CONTROL_CONNECT_SECONDS": "how long a client waits: only a timed test could tell",
    "CONTROL_ANSWER_SECONDS": "ten minutes",
    "CONTROL_ASK_SECONDS": "an hour",
    "DAEMON_START_SECONDS": "how long a command waits for a daemon that does not come",
}
C6, S6 = "2001:db8:1::2", "2001:db8:2::2"


def test_every_bound_is_held_by_a_test_or_says_why_not():
    assert sorted([*HELD, *NOT_HELD]) == sorted(NAMES)


@pytest.mark.parametrize("name", HELD)
def test_where_it_is_held(name):
    file, words = HELD[name]
    assert words in (ROOT / file).read_text()


def test_constants_of_c_are_those_of_limits():
    """Every `number  # limits.NAME` of the compiled sources."""
    found = [(path.name, name, int(number), bool(more)) for path in sorted((ROOT / "nfqfw").rglob("*.p[xy][dx]"))
             for number, name, more in DECLARED.findall(path.read_text())]
    assert len(found) >= 15, found
    assert [each for each in found if each[2] != getattr(limits, each[1]) + each[3]] == []


# ---- rules ---------------------------------------------------------------------------------------------------------------

def test_comment():
    """The kernel's struct has 256 bytes, the last of them NUL: what is longer is cut, as by the tool."""
    text = "x" * (limits.COMMENT_BYTES + 1)
    ruleset = load(f"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m comment --comment {text}\nCOMMIT\n", "r", 2)
    assert ruleset.tables["filter"].chains["INPUT"].rules[0].matches[0].text() == f"comment --comment {text[:255]}"


@pytest.mark.parametrize("more, fits", [(0, True), (1, False)])
def test_restore_line(more, fits):
    """iptables-restore 1.8.9 takes 10,239 bytes and a newline; one more it reads as two lines."""
    line = "-A INPUT -m comment --comment "
    text = f"*filter\n:INPUT ACCEPT [0:0]\n{line}{'x' * 200} {' ' * (limits.RESTORE_LINE_BYTES - len(line) - 202 + more)}\nCOMMIT\n"
    if fits:
        assert len(load(text, "r", 2).tables["filter"].chains["INPUT"].rules) == 1
    else:
        with pytest.raises(NfqfwError):
            load(text, "r", 2)


def first_match(line: str):
    rule = load(f"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {line}\nCOMMIT\n", "r", IPV4).tables["filter"].chains["INPUT"].rules[0]
    return rule.matches[0].ext.lower(rule.matches[0], rule)


@pytest.mark.parametrize("options, buckets, most", [
    ("", 8192, 8 * 8192), ("--hashlimit-htable-size 4000000 --hashlimit-htable-max 4000000", 1 << 20, 1 << 20)])
def test_hashlimit_table(options, buckets, most):
    tests = first_match(f"-m hashlimit --hashlimit-upto 1/s --hashlimit-name a --hashlimit-mode srcip {options}")
    assert [struct.unpack_from("<2I", test.named.config) for test in tests if test.named] == [(buckets, most)]


def test_connlimit_table():
    tests = first_match("-m connlimit --connlimit-above 2")
    assert [struct.unpack_from("<2I", test.named.config)[1] for test in tests if test.named] == [1 << 19]


# ---- packets -------------------------------------------------------------------------------------------------------------

def chain_of(headers: int, inside=None, last=None):
    packet = IPv6(src=C6, dst=S6)
    for _ in range(headers):
        packet /= IPv6ExtHdrDestOpt()
    return packet / (last if last is not None else UDP(sport=4, dport=53) / Raw(b"1234"))


@pytest.mark.parametrize("headers, walked", [(0, True), (60, True), (64, True), (65, False), (150, False)])
def test_extension_headers(headers, walked):
    """So many are walked to what they carry; a longer chain has no transport header for us, and nothing of it matches."""
    spoken = rules("-A FORWARD -p udp -m udp --dport 53 -m conntrack --ctstate NEW -j ACCEPT", policy="DROP")
    fw = Firewall("", spoken)
    decision = fw.forward(chain_of(headers))
    assert (decision.verdict, decision.ctstate) == ((1, "NEW") if walked else (0, "INVALID"))
    assert fw.table.count == walked


@pytest.mark.parametrize("headers, found", [(63, True), (64, False)])
def test_extension_headers_of_a_match(headers, found):
    """-m frag behind so many others: the 64th header is looked at; behind 64 it is the 65th, and the packet is dropped as malformed."""
    fw = Firewall("", rules("-A FORWARD -m frag --fragid 5 -j ACCEPT", policy="DROP"))
    decision = fw.forward(chain_of(headers, last=IPv6ExtHdrFragment(nh=17, id=5, m=1) / Raw(b"x" * 8)))
    assert (decision.verdict == 1) == found


@pytest.mark.parametrize("headers, related", [(64, True), (65, False)])
def test_extension_headers_of_a_quoted_packet(headers, related):
    """An error quotes a connection's packet with so many headers in front of its ports."""
    fw = Firewall("", rules("-A FORWARD -m conntrack --ctstate NEW,RELATED -j ACCEPT", policy="DROP"))
    assert fw.forward(chain_of(0)).verdict == 1
    quoted = chain_of(headers)
    error = IPv6(src=S6, dst=C6) / ICMPv6DestUnreach() / Raw(bytes(quoted))
    assert fw.forward(error, "eth1", "eth0").verdict == related


@pytest.mark.parametrize("family, seconds, chosen_seconds", [(4, 30, None), (6, 60, None), (6, 7, 7), (4, 30, 7)])
def test_fragments_wait(family, seconds, chosen_seconds):
    """30 s and 60 s from the first (net.ipv4.ipfrag_time, nf_conntrack_frag6_timeout); the latter can be set, and is IPv6's alone."""
    for late, verdicts in ((-1, [2, 2]), (0, [2, 2])):
        fw = defrag_firewall()
        if chosen_seconds:
            fw.table.set("nf_conntrack_frag6_timeout", chosen_seconds)
        first, second = pieces6([400]) if family == 6 else [
            IP(src="10.0.1.2", dst="10.0.2.2", id=7, proto=17, flags="MF") / Raw(bytes(UDP(sport=4, dport=53, len=40)) + b"z" * 16),
            IP(src="10.0.1.2", dst="10.0.2.2", id=7, proto=17, frag=3) / Raw(b"z" * 16)]
        assert fw.forward(first, id=1).verdict == 2
        fw.now += seconds * SECOND + late
        assert fw.forward(second, id=2).verdict == 2
        whole = [(number, verdict) for number, verdict, *_ in fw.engine.take_released()]
        assert whole == ([(1, 1), (2, 1)] if late < 0 else [(1, 0)]), late


def test_replies_of_a_batch():
    """A batch of more REJECTs than the outbox holds: the others are dropped all the same, and counted."""
    fw = Firewall(rules("-A FORWARD -p tcp -j REJECT --reject-with tcp-reset"))
    for number in range(limits.OUTBOX_PACKETS + 5):
        packet = IP(src="10.0.1.2", dst="10.0.2.2") / TCP(sport=1000 + number, dport=80, flags="S")
        assert fw.cross(packet, FORWARD, "eth0", "eth1").verdict == 0
    stats = fw.engine.stats()
    assert len(fw.engine.take_replies()) == 256 and stats["rejects"] == {"sent": 256, "outbox_full": 5} and stats["reject_outbox_full"] == 5


# ---- files, tables -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("more, fits", [(0, True), (1, False)])
def test_capture_record(tmp_path, more, fits):
    path = tmp_path / "long.pcap"
    size = limits.CAPTURE_RECORD_BYTES + more
    packet = bytes(IP(src="10.0.1.2", dst="10.0.2.2") / UDP(sport=1, dport=2))
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 24, 101) + struct.pack("<IIII", 0, 0, size, size) + packet.ljust(size, b"\0"))
    with Capture(path) as capture:
        if fits:
            assert len(list(capture)) == 1
        else:
            with pytest.raises(CaptureError, match="damaged"):
                list(capture)


@pytest.mark.parametrize("more, fits", [(0, True), (1, False)])
def test_settings_file(tmp_path, more, fits):
    path = tmp_path / "nfqfw.conf"
    line = "nf_conntrack_acct=1\n"
    path.write_text(line + "#" * (limits.SETTINGS_FILE_BYTES - len(line) + more))
    if fits:
        assert chosen((), path) == {"nf_conntrack_acct": 1}
    else:
        with pytest.raises(NfqfwError, match="longer than 1048576 bytes"):
            chosen((), path)


def test_flow_table():
    """What Linux 6.18 shows with more than 4 GiB of memory, and what the memory is laid out for."""
    table = ConntrackTable()
    assert table.get("nf_conntrack_max") == 262_144 and table.arena.slots == limits.CONNTRACK_SLOTS_MAX == 1 << 24
    table.set("nf_conntrack_max", limits.CONNTRACK_SLOTS_MAX - 1)
    with pytest.raises(ValueError, match="room for"):
        table.set("nf_conntrack_max", limits.CONNTRACK_SLOTS_MAX)
    with pytest.raises(ValueError, match="not within"):
        Arena.create(limits.CONNTRACK_SLOTS_MAX + 1)


def test_events_of_a_follower():
    """A follower that does not take its events keeps the latest so many."""
    hub = EventHub(ConntrackTable(64, 256))
    with hub.listen():
        assert [mine.maxlen for mine in hub.listeners] == [65_536]


def test_length_of_the_package():
    """NetfilterQueue's buffer of 4,096 bytes holds so much of a packet beside the attributes."""
    assert not any("delivers only" in line for line in limits_of_package(3_840))
    assert any("delivers only the first 3840 bytes" in line for line in limits_of_package(3_841))
