"""Named tables across reloads, and the arithmetic of matches that remember, on an engine whose clock we set."""

import pytest
from scapy.layers.inet import IP, TCP, UDP

from nfqfw._engine import LoadedProgram
from nfqfw._registry import NamedTables
from nfqfw.compile import compile_rulesets
from nfqfw.errors import RuleErrors
from nfqfw.ext.m_hashlimit import bucket, byte_cost, bytes_of, jiffies
from nfqfw.ext.names import wide_mask
from nfqfw.ext.m_recent import ring
from nfqfw.limits import CONNLIMIT_EMPTY
from nfqfw.packets import ACCEPT
from nfqfw.rules import load
from tests.engine.support import SECOND, Firewall
from tests.engine.test_walk import udp


def rules(*lines: str) -> str:
    return "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n" + "".join(f"-A FORWARD {line}\n" for line in lines) + "COMMIT\n"


class Reloading(Firewall):
    """A Firewall whose tables outlive its rulesets, as the daemon's do."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.named = NamedTables()
        self.reload(text)

    def reload(self, text: str) -> None:
        self.program = compile_rulesets([load(text, "rules.v4", 2)])
        self.loaded = LoadedProgram(self.program, 1, self.named)
        self.engine.load(self.loaded)
        self.named.keep(self.program.named)

    def hits(self) -> list[int]:
        """Packets of each FORWARD rule."""
        return [packets for packets, _ in self.counters("FORWARD")[:-1]]


def test_a_list_survives_reloads_until_no_rule_names_it():
    fw = Reloading(rules("-m recent --set --name seen"))
    fw.forward(udp())
    fw.reload(rules("-m recent --rcheck --name seen"))
    fw.forward(udp())
    assert fw.hits() == [1]
    fw.reload(rules("-p udp"))
    fw.reload(rules("-m recent --rcheck --name seen"))
    fw.forward(udp())
    assert fw.hits() == [0]


def test_a_bucket_survives_reloads():
    text = rules("-m hashlimit --hashlimit-name h --hashlimit-upto 1/hour --hashlimit-burst 2 --hashlimit-mode srcip")
    fw = Reloading(text)
    fw.forward(udp())
    fw.reload(text)
    for _ in range(3):
        fw.forward(udp())
    assert fw.hits() == [1]


def test_a_longer_ring_empties_the_list():
    """As the kernel's: a rule with a larger --hitcount than the list was made for."""
    fw = Reloading(rules("-m recent --set --name seen"))
    fw.forward(udp())
    fw.reload(rules("-m recent --rcheck --hitcount 33 --name seen", "-m recent --rcheck --name seen"))
    fw.forward(udp())
    assert fw.hits() == [0, 0]


def test_one_list_for_both_families_and_one_table_per_family():
    v4 = load(rules("-m recent --set --name x", "-m hashlimit --hashlimit-name x --hashlimit-upto 1/s"), "v4", 2)
    v6 = load(rules("-m recent --set --name x", "-m hashlimit --hashlimit-name x --hashlimit-upto 1/s"), "v6", 10)
    assert [use.key for use in compile_rulesets([v4, v6]).named] == [("recent", "x", 0), ("hashlimit", "x", 2), ("hashlimit", "x", 10)]


def test_recent_ages_by_the_clock():
    fw = Firewall(rules("-m recent --rcheck --seconds 60 --name s", "-m recent --set --name s"))
    for seconds in (0, 60, 61, 3600):
        fw.now += seconds * SECOND
        assert fw.forward(udp()).verdict == ACCEPT
    assert [n for n, _ in fw.counters("FORWARD")] == [1, 4, 4]      # at 60 s it is still young enough


def test_ring():
    assert [ring(hits) for hits in (0, 1, 2, 3, 4, 5, 33, 65535)] == [32, 1, 2, 4, 4, 8, 64, 65536]


def test_hashlimit_arithmetic():
    """Values that iptables-legacy 1.8.9 handed to the kernel (seen by getsockopt), and xt_hashlimit's credits by hand."""
    assert byte_cost(512 * 1024) == 131068 and byte_cost(992) == 68174084
    assert bytes_of(byte_cost(1024 * 1024)) == 1024 * 1024
    assert bucket({"rate": 1_000_000, "burst": 5}) == (5 * 137438953 * 10**6, 137438953 * 10**6, 5 * 137438953 * 10**6, 0)
    assert bucket({"rate": 512 << 10, "burst": 1 << 20, "bytes": True}) == (250 << 24, 131068 * (250 << 24) >> 32, 2, 0)
    assert bucket({"rate": 62_500, "burst": 5, "rate_match": True}) == (0, 0, 21, 16)
    assert [jiffies(ms) for ms in (1, 4, 5, 1000, 0x80000000)] == [1, 1, 2, 250, 1 << 61]
    assert wide_mask(20, 32).hex() == "fffff000" + "00" * 12 and wide_mask(0, 128) == bytes(16)


def test_connlimit_starts_empty_at_a_commit_of_its_table():
    """Two connections live; the rule that is new in its table has seen only those whose packets came since (spec/iptables.md 4.5)."""
    text = rules("-m connlimit --connlimit-above 1")
    fw = Reloading(text)
    for port in (1, 2):
        fw.forward(udp(sport=port))
    assert fw.hits() == [1]
    fw.reload(text)
    fw.forward(udp(sport=1))
    assert fw.hits() == [0]
    fw.forward(udp(sport=2))
    assert fw.hits() == [1]


def test_connlimit_goes_on_through_a_commit_of_another_table():
    """The daemon hands private tables of the kept tables' rules over; a rule that is new has none to take."""
    from nfqfw.daemon.evaluator import table_places

    ruleset = load(rules("-m connlimit --connlimit-above 1", "-m connlimit --connlimit-above 1"), "rules.v4", 2)
    old, new = compile_rulesets([ruleset]), compile_rulesets([ruleset])
    assert table_places(old, new, frozenset({(2, "filter")})) == [(0, 0), (1, 1)]
    assert table_places(old, new, frozenset({(2, "mangle")})) == []
    before, after = LoadedProgram(old), LoadedProgram(new)
    fw = Firewall(rules("-p udp"))
    for loaded in (before, after):
        if loaded is after:
            after.inherit_tables(before, table_places(old, new, frozenset({(2, "filter")})))
        fw.engine.load(loaded)
        fw.forward(udp(sport=1 if loaded is before else 2))
    assert [packets for packets, _ in after.counters_list()[:2]] == [1, 1]


def test_connlimit_many_connections_stay_bounded_and_exact():
    """A hundred connections of one address, half of them timed out: the others count."""
    fw = Firewall(rules("-m connlimit --connlimit-above 50"))
    for port in range(1, 51):
        fw.forward(udp(sport=port))
    fw.now += 29 * SECOND
    for port in range(51, 101):
        fw.forward(udp(sport=port))
    assert fw.counters("FORWARD")[0][0] == 50
    fw.now += 2 * SECOND                # UDP without a reply: 30 s
    fw.forward(udp(sport=51))
    assert fw.counters("FORWARD")[0][0] == 50
    fw.forward(udp(sport=200))
    assert fw.counters("FORWARD")[0][0] == 51


def test_connlimit_is_refused_in_the_raw_table():
    """No packet has its connection there yet; the kernel goes by tuple."""
    text = "*raw\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n-A PREROUTING -m connlimit --connlimit-above 1 -j DROP\nCOMMIT\n"
    with pytest.raises(RuleErrors, match="not evaluated yet: match connlimit in table raw"):
        compile_rulesets([load(text, "rules.v4", 2)])


def test_an_empty_list_of_connlimit_goes_after_a_minute():
    """Who meets it is dropped, as by Linux, which has no bound (tests/flows/connlimit_assured.flow); then it is made anew."""
    fw = Firewall(rules("-m tos --tos 8/0xff -m connlimit --connlimit-above 100"))
    ours, theirs = IP(src="10.0.1.2", dst="10.0.2.2", tos=8), IP(src="10.0.2.2", dst="10.0.1.2")
    ack = ours / TCP(sport=7, dport=80, flags="A", seq=101, ack=501)
    fw.forward(udp())                                       # joins no list: another TOS
    first = IP(src="10.0.1.2", dst="10.0.2.2", tos=8) / UDP(sport=1, dport=53)
    assert fw.forward(first).verdict == ACCEPT              # the one member, for 30 s
    for packet, back in ((IP(src="10.0.1.2", dst="10.0.2.2") / TCP(sport=7, dport=80, flags="S", seq=100), False),
                         (theirs / TCP(sport=80, dport=7, flags="SA", seq=500, ack=101), True), (ack, False)):
        assert (fw.back if back else fw.forward)(packet).verdict == ACCEPT
    fw.now += 31 * SECOND                                   # it is gone
    verdicts = []
    for seconds in (0, CONNLIMIT_EMPTY - 1, 2, 1):          # the list met empty, twice; then one that the packet's connection makes
        fw.now += seconds * SECOND
        verdicts.append(fw.forward(ack).verdict == ACCEPT)
    assert verdicts == [False, False, True, True]
