"""Every reason for which nfqfw drops a packet by itself can be brought about, is counted by its name, and `nfqfw status` shows it."""

import json

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Raw

from nfqfw.cli.status import text
from nfqfw.host import Host
from nfqfw.reasons import REASONS
from tests.engine.support import SECOND, Firewall

C, S = "10.0.1.2", "10.0.2.2"
FILTER = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{}COMMIT\n"
TRACK = FILTER.format("-A FORWARD -m conntrack --ctstate INVALID\n")

# Not here: what would be a bug in us, and what another room's tests bring about.
BUGS = {"stack", "internal", "rewrite"}
ELSEWHERE = {"chain_too_long": "tests/conntrack/test_table.py (bucket of colliding entries)", "masq_moved": "tests/nat/test_rewrite.py",
             "nat_exhausted": "tests/nat", "nat_inner": "tests/nat/test_rewrite.py, recorded cases of tests/oracle"}


def mangle(rule: str) -> str:
    return f"*mangle\n:FORWARD ACCEPT [0:0]\n-A FORWARD {rule}\nCOMMIT\n"


def nat(rule: str) -> str:
    return f"*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING {rule}\nCOMMIT\n"


def piece(offset: int, size: int, more: bool, **ip) -> IP:
    return IP(src=C, dst=S, id=7, proto=17, frag=offset // 8, flags="MF" if more else 0, **ip) / Raw(b"x" * size)


def forwarded(rules: str, *packets, wait: float = 0, **facts) -> Firewall:
    fw = Firewall(rules, **facts)
    for number, packet in enumerate(packets):
        fw.forward(packet, id=number)
    fw.now += int(wait * SECOND)
    fw.engine.idle(fw.now)
    return fw


def truncated() -> Firewall:
    fw = Firewall(mangle("-j TTL --ttl-set 9"))
    fw.forward(IP(src=C, dst=S, len=400) / UDP(), total=400)
    return fw


def table_full() -> Firewall:
    """Every entry assured (a picked-up connection, its answer, and one more): none may go for the next one."""
    fw = Firewall(TRACK, limit=4, slots=64)
    for port in range(1000, 1005):
        there, back = IP(src=C, dst=S) / TCP(sport=port, dport=80, seq=1, ack=1, flags="A"), IP(src=S, dst=C) / TCP(sport=80, dport=port, seq=1, ack=1, flags="A")
        for packet in (there, back, there):
            fw.forward(packet)
    return fw


CASES = {
    "bad_ip": lambda: forwarded(TRACK, IP(src=C, dst=S, chksum=1)),
    "truncated": truncated,
    "hotdrop": lambda: forwarded(FILTER.format("-A FORWARD -p tcp -m tcp --dport 80\n"), IP(src=C, dst=S, proto=6, frag=1) / Raw(b"x" * 20)),
    "rejected": lambda: forwarded(FILTER.format("-A FORWARD -j REJECT\n"), IP(src=C, dst=S) / UDP()),
    "table_full": table_full,
    "insert_failed": lambda: forwarded(nat("-j SNAT --to-source 10.0.2.9"), *(IP(src=f"10.0.1.{n}", dst=S, proto=89) for n in (2, 3))),
    "nat_no_address": lambda: forwarded(nat("-j MASQUERADE"), IP(src=C, dst=S) / UDP(), host=Host.offline({"eth0": [], "eth1": []}).block),
    "frag_overlap": lambda: forwarded(TRACK, piece(0, 24, True), piece(16, 24, True)),
    "frag_limit": lambda: forwarded(TRACK, *(piece(8 * n, 8, True) for n in range(66))),
    "frag_timeout": lambda: forwarded(TRACK, piece(0, 24, True), wait=31),
    "frag_bad": lambda: forwarded(TRACK, piece(24, 32, False), piece(24, 24, False)),
    "frag_ecn": lambda: forwarded(TRACK, piece(0, 24, True, tos=0), piece(24, 8, False, tos=3)),
    "malformed": lambda: forwarded(mangle("-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 500"),
                                   IP(bytes(IP(src=C, dst=S) / TCP(flags="S", dataofs=3)))),
}


def status(stats: dict) -> dict:
    daemon = dict(pid=1, uptime_seconds=1, autostarted=False, socket="", hooks=[], queues=[], generation=1, failure=None)
    return {"running": True, "daemon": daemon, "stats": stats, "rules": [], "connections": []}


@pytest.mark.parametrize("reason", CASES)
def test_it_can_be_brought_about_and_is_seen(reason):
    stats = CASES[reason]().engine.stats()
    assert stats["drops"].get(reason), stats["drops"]
    shown = status(stats)
    assert json.loads(json.dumps(shown))["stats"]["drops"][reason] == stats["drops"][reason]
    if reason != "rejected":                            # a rule did that: it stands in the rule's own line
        assert f"dropped by nfqfw, {reason}: {stats['drops'][reason]}" in text(shown)


def test_no_reason_is_forgotten():
    assert {"none", *CASES, *BUGS, *ELSEWHERE} == set(REASONS)
    assert not (set(CASES) & (BUGS | set(ELSEWHERE)))
