"""The explanation of a verdict: which rule, which predicate, what the packet had there.  The expected lines are read off the ruleset."""

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from nfqfw import rules
from nfqfw.errors import NfqfwError
from nfqfw.queue.capture import Captured
from nfqfw.report.packet import summarise

replay = pytest.importorskip("nfqfw.replay", reason="needs the compiled engine")

RULES = """*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p udp --dport 5000 -j NOTRACK
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:inner - [0:0]
:last - [0:0]
-A FORWARD -s 10.9.0.0/16 -j ACCEPT
-A FORWARD ! -i eth0 -j ACCEPT
-A FORWARD -p tcp --dport 80 -m conntrack --ctstate NEW -g inner
-A FORWARD -p udp -j inner
-A FORWARD -p icmp -j MARK --set-mark 0x7
-A FORWARD -m mark --mark 0x7 -j ACCEPT
-A inner -p tcp -j last
-A inner -d 10.0.2.9 -j RETURN
-A last -j REJECT
COMMIT
"""


def walk(packet, text=RULES, family=2) -> list[str]:
    """Lines of one packet's trace, crossing after crossing, forwarded from eth0 to eth1."""
    session = replay.Replay([rules.load(text, "r", family)], interfaces=("eth0", "eth1"), trace=True)
    data = bytes(packet)
    (told,) = session.run([Captured(1, 10**18, data, len(data), "", b"")])
    return [line for kind, lines in told.lines if kind == "trace" for line in lines if "at OUTPUT" not in lines[0]]


def squeezed(lines: list[str]) -> list[str]:
    """One item per rule: outcome behind the rule, runs of blanks as one."""
    out: list[str] = []
    for line in lines:
        if line.startswith("        ") and out:
            out[-1] += " " + line.strip()
        else:
            out.append(line)
    return [" ".join(line.split()) for line in out]


def test_predicates_that_fail_and_a_goto():
    lines = squeezed(walk(IP(src="10.0.1.2", dst="10.0.2.2") / TCP(sport=1024, dport=80, flags="S")))
    filter_part = lines[lines.index("filter FORWARD"):]
    assert filter_part == [
        "filter FORWARD",
        "1 r:11 -s 10.9.0.0/16 -j ACCEPT no: -s, source is 10.0.1.2",
        "2 r:12 ! -i eth0 -j ACCEPT no: -i, in is eth0",
        "3 r:13 -p tcp -m tcp --dport 80 -m conntrack --ctstate NEW -g inner yes, goto inner",
        "inner 1 r:17 -p tcp -j last yes, jump to last",
        "last 1 r:19 -j REJECT --reject-with icmp-port-unreachable yes",
        "reply sent",
        "=> DROP by r:19 (filter last rule 1)",
    ]
    assert lines[0] == "TCP 10.0.1.2:1024 -> 10.0.2.2:80 SYN 40 bytes, at PREROUTING in eth0"


def test_return_policy_and_untracked():
    lines = squeezed(walk(IP(src="10.0.1.2", dst="10.0.2.9") / UDP(sport=1, dport=5000)))
    text = "\n".join(lines)
    assert "r:3 -p udp -m udp --dport 5000 -j " in text                       # raw PREROUTING matched
    assert "3 r:13 -p tcp -m tcp --dport 80 -m conntrack --ctstate NEW -g inner no: -p, protocol is UDP" in lines
    assert lines[lines.index("inner 2 r:18 -d 10.0.2.9/32 -j RETURN yes") + 1] == "back in FORWARD"
    assert lines[-2:] == ["policy DROP", "=> DROP by the policy of filter FORWARD"]


def test_a_mark_that_a_rule_set_is_seen_by_the_next():
    lines = squeezed(walk(IP(src="10.0.1.2", dst="10.0.2.2") / ICMP()))
    assert any(line.startswith("5 r:15 -p icmp -j MARK") and " yes" in line for line in lines)
    assert "6 r:16 -m mark --mark 0x7 -j ACCEPT yes" in lines
    assert lines[-1] == "=> ACCEPT by r:16 (filter FORWARD rule 6)"


def test_ctstate_is_named():
    text = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m conntrack --ctstate ESTABLISHED -j DROP\nCOMMIT\n"
    lines = squeezed(walk(IP(src="1.1.1.1", dst="2.2.2.2") / UDP(sport=1, dport=2), text))
    assert "1 r:3 -m conntrack --ctstate ESTABLISHED -j DROP no: -m conntrack --ctstate ESTABLISHED, ctstate is NEW" in lines


def test_ipv6():
    text = "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -s 2001:db8::/64 -p tcp -m tcp --dport 80 -j ACCEPT\nCOMMIT\n"
    lines = squeezed(walk(IPv6(src="2001:db8::1", dst="2001:db8:1::2") / TCP(sport=9, dport=81), text, 10))
    assert lines[0].startswith("TCP [2001:db8::1]:9 -> [2001:db8:1::2]:81 SYN 60 bytes")
    assert "1 r:3 -s 2001:db8::/64 -p tcp -m tcp --dport 80 -j ACCEPT no: -m tcp --dport 80, ports are 9 -> 81, SYN" in lines


def test_nat_shows_what_the_packet_became():
    text = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.2.9:8080\nCOMMIT\n"
    lines = squeezed(walk(IP(src="10.0.1.2", dst="10.0.2.2") / TCP(sport=1024, dport=80, flags="S"), text))
    assert "1 r:3 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.2.9:8080 yes" in lines
    mapped = next(i for i, line in enumerate(lines) if line.startswith("nat: destination mapped"))
    assert lines[mapped + 1] == "packet is now TCP 10.0.1.2:1024 -> 10.0.2.9:8080 SYN"


def test_a_packet_the_kernel_would_not_pass_is_named():
    bad = bytearray(bytes(IP(src="1.1.1.1", dst="2.2.2.2") / UDP()))
    bad[10] ^= 0xff                                                         # header checksum
    session = replay.Replay([rules.load(RULES, "r", 2)])
    (told,) = session.run([Captured(1, 10**18, bytes(bad), len(bad), "", b"")])
    assert [(fate.verdict, fate.reason) for fate in told.fates] == [("DROP", "bad_ip")]


@pytest.mark.parametrize("data, text", [
    (b"", "? ? -> ?"), (b"\x45", "? ? -> ?"), (b"\x60" + bytes(39), "protocol 0 :: -> ::"), (bytes(64), "? ? -> ?"),
    (bytes(IP(src="1.2.3.4", dst="4.3.2.1", frag=3, proto=17)), "UDP 1.2.3.4 -> 4.3.2.1 fragment at 24"),
    (bytes(IP(src="1.2.3.4", dst="4.3.2.1") / ICMP(type=3, code=1)), "ICMP 1.2.3.4 -> 4.3.2.1 type 3 code 1"),
])
def test_a_packet_in_a_few_words(data, text):
    assert str(summarise(data)) == text


def test_a_rule_without_an_evaluator_is_refused_with_its_place():
    with pytest.raises(NfqfwError) as caught:
        replay.Replay([rules.load("*nosuch\nCOMMIT\n", "r", 2)])
    assert "r:1" in str(caught.value)
