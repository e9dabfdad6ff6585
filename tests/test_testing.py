"""nfqfw.testing: the API of firewall authors.  Expected verdicts follow from the demo's ruleset and from Linux's time-outs."""

from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP

pytest.importorskip("nfqfw._engine", reason="needs the compiled engine")

from nfqfw.demo.show import ruleset  # noqa: E402
from nfqfw.errors import RuleErrors  # noqa: E402
from nfqfw.host import Host  # noqa: E402
from nfqfw.report.packet import summarise  # noqa: E402
from nfqfw.testing import Firewall  # noqa: E402

CLIENT, SERVER = "10.0.1.2", "10.0.2.2"


@pytest.fixture
def firewall():
    host = Host.offline({"eth0": ["10.0.1.1/24", "fd00:1::1/64"], "eth1": ["10.0.2.1/24", "fd00:2::1/64"]})
    return Firewall(ruleset(4), ruleset(6), host=host)


def test_a_conversation(firewall):
    assert firewall.send("tcp", SERVER + ":80", CLIENT + ":40000", flags="S.").verdict == "DROP"        # nobody asked
    assert firewall.send("tcp", CLIENT, SERVER + ":80", seq=1).verdict == "ACCEPT"
    assert firewall.send("tcp", SERVER + ":80", CLIENT + ":40000", flags="S.", seq=9, ack=2).verdict == "ACCEPT"
    assert firewall.send("tcp", CLIENT, SERVER + ":80", flags=".", seq=2, ack=10).verdict == "ACCEPT"


def test_time_passes(firewall):
    """An unanswered UDP flow is forgotten after 30 seconds (nf_conntrack_udp_timeout): then its answer is nobody's."""
    for wait, verdict in ((29, "ACCEPT"), (31, "DROP")):
        assert firewall.send("udp", f"{CLIENT}:{5000 + wait}", SERVER + ":53").verdict == "ACCEPT"
        assert firewall.send("udp", SERVER + ":53", f"{CLIENT}:{5000 + wait}", after=wait).verdict == verdict


def test_a_limit_recovers(firewall):
    """demo.v4 logs 5 a second with the default burst of 5."""
    logged = [bool(firewall.send("tcp", CLIENT, SERVER + ":22").log) for _ in range(8)]
    assert logged == [True] * 5 + [False] * 3
    assert firewall.send("tcp", CLIENT, SERVER + ":22", after=1).log


def test_ipv6_beside_ipv4(firewall):
    assert firewall.send("tcp", "fd00:1::2", "[fd00:2::2]:80").verdict == "ACCEPT"
    assert firewall.send("icmp", "fd00:1::2", "fd00:2::2").verdict == "ACCEPT"


def test_the_outcome_tells_why(firewall):
    outcome = firewall.send("tcp", CLIENT, SERVER + ":23")
    assert outcome.verdict == "DROP" and str(outcome.replies[0]) == "TCP 10.0.2.2:23 -> 10.0.1.2:40000 ACK,RST"
    assert "telnet" in str(outcome) and str(outcome).endswith("DROP")
    counts = {(r["family"], r["chain"], r.get("position")): r["packets"] for r in firewall.counters()}
    assert counts[4, "FORWARD", 4] == 1


def test_packets_of_scapy_and_rules_as_text():
    firewall = Firewall("*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -p udp --dport 53 -j DROP\nCOMMIT\n")
    assert firewall.send_bytes(bytes(IP(src=CLIENT, dst=SERVER) / UDP(dport=53))).verdict == "DROP"
    assert firewall.send_bytes(bytes(IP(src=CLIENT, dst=SERVER) / UDP(dport=54))).verdict == "ACCEPT"


def test_mistakes_are_raised():
    with pytest.raises(RuleErrors):
        Firewall("*filter\n-A NOSUCH -j DROP\nCOMMIT\n")
    with pytest.raises(ValueError, match="needs a port"):
        Firewall(ruleset(4)).send("tcp", CLIENT, SERVER)


@pytest.fixture
def containers():
    """A host with one container behind docker0, whose port 80 is published as 8080."""
    host = Host.offline({"eth0": ["198.51.100.1/24"], "docker0": ["172.17.0.1/16"]}, ["default via 198.51.100.254"])
    return Firewall(Path(__file__).parent / "rulesets" / "containers.v4", host=host)


def ends(outcome) -> str:
    return str(summarise(outcome.data)).removesuffix(" SYN").removesuffix(" SYN,ACK")


def test_a_published_port_and_its_answer(containers):
    question = containers.send("tcp", "203.0.113.5:5555", "198.51.100.1:8080", seq=1)
    assert question.verdict == "ACCEPT" and ends(question) == "TCP 203.0.113.5:5555 -> 172.17.0.2:80"
    answer = containers.send("tcp", "172.17.0.2:80", "203.0.113.5:5555", flags="S.", ack=2)
    assert answer.verdict == "ACCEPT" and ends(answer) == "TCP 198.51.100.1:8080 -> 203.0.113.5:5555"


def test_a_container_goes_out_masqueraded(containers):
    outcome = containers.send("udp", "172.17.0.2:4444", "8.8.8.8:53")
    assert outcome.verdict == "ACCEPT" and ends(outcome) == "UDP 198.51.100.1:4444 -> 8.8.8.8:53"
    answer = containers.send("udp", "8.8.8.8:53", "198.51.100.1:4444")
    assert answer.verdict == "ACCEPT" and ends(answer) == "UDP 8.8.8.8:53 -> 172.17.0.2:4444"


def test_an_unpublished_port_of_a_container_is_not_reached(containers):
    assert containers.send("tcp", "203.0.113.5:5555", "172.17.0.2:81").verdict == "DROP"
    assert containers.send("tcp", "203.0.113.5:5555", "198.51.100.1:8081").verdict == "DROP"
