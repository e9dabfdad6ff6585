"""The walk through chains, as spec/iptables.md 4.1 says it (each case was seen on the kernel there)."""

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from tests.engine.support import Firewall

C, S = "10.0.1.2", "10.0.2.2"


def rules(*lines, policy="ACCEPT", chains=()):
    head = ["*filter", f":INPUT {policy} [0:0]", f":FORWARD {policy} [0:0]", f":OUTPUT {policy} [0:0]"]
    return "\n".join([*head, *(f":{name} - [0:0]" for name in chains), *lines, "COMMIT", ""])


def udp(dport=53, sport=4000, size=8):
    return IP(src=C, dst=S) / UDP(sport=sport, dport=dport) / Raw(b"x" * size)


def test_policy_decides_and_counts_what_falls_through():
    fw = Firewall(rules(policy="DROP"))
    decision = fw.forward(udp(size=10))
    assert decision.verdict == 0 and fw.reason(decision) == "none"
    assert fw.counters("FORWARD") == [(1, 38)]          # 20 + 8 + 10 bytes


def test_a_rule_counts_before_its_target_acts_and_the_policy_does_not():
    fw = Firewall(rules("-A FORWARD -p udp -m udp --dport 53 -j ACCEPT", "-A FORWARD -j DROP"))
    assert fw.forward(udp(53)).accepted
    assert not fw.forward(udp(54)).accepted
    assert fw.counters("FORWARD") == [(1, 36), (1, 36), (0, 0)]


def test_a_rule_without_target_counts_and_the_walk_goes_on():
    fw = Firewall(rules("-A FORWARD -p udp", "-A FORWARD -j DROP"))
    assert not fw.forward(udp()).accepted
    assert fw.counters("FORWARD")[:2] == [(1, 36), (1, 36)]


def test_return_goes_back_behind_the_caller():
    fw = Firewall(rules("-A FORWARD -j u", "-A FORWARD -p udp -j DROP", "-A u -p udp -j RETURN", "-A u -j ACCEPT", chains="u"))
    assert not fw.forward(udp()).accepted
    assert fw.counters("u") == [(1, 36), (0, 0)]


def test_return_from_a_built_in_chain_meets_the_policy():
    fw = Firewall(rules("-A FORWARD -j RETURN", "-A FORWARD -j ACCEPT", policy="DROP"))
    assert not fw.forward(udp()).accepted
    assert fw.counters("FORWARD") == [(1, 36), (0, 0), (1, 36)]


def test_goto_leaves_nothing_on_the_stack():
    fw = Firewall(rules("-A FORWARD -g u", "-A FORWARD -j ACCEPT", "-A u -p tcp -j ACCEPT", policy="DROP", chains="u"))
    assert not fw.forward(udp()).accepted               # end of u: straight to the policy of FORWARD
    assert fw.counters("FORWARD") == [(1, 36), (0, 0), (1, 36)]


def test_goto_inside_a_jump_returns_to_the_last_jump():
    fw = Firewall(rules("-A FORWARD -j a", "-A FORWARD -p udp -j DROP", "-A a -g b", "-A a -j ACCEPT", "-A b -j RETURN",
                        chains="ab"))
    assert not fw.forward(udp()).accepted
    assert fw.counters("a") == [(1, 36), (0, 0)]
    assert fw.counters("FORWARD")[1] == (1, 36)


def test_each_inversion_turns_only_its_own_test():
    fw = Firewall(rules("-A FORWARD ! -s 10.0.1.0/24 -j DROP", "-A FORWARD ! -i eth0 -j DROP", "-A FORWARD ! -p tcp -j ACCEPT",
                        policy="DROP"))
    assert fw.forward(udp()).accepted
    assert fw.counters("FORWARD")[:3] == [(0, 0), (0, 0), (1, 36)]
    assert not fw.forward(udp(), ifin="eth1").accepted


@pytest.mark.parametrize("pattern, hit", [("eth0", True), ("eth+", True), ("et+", True), ("eth1", False), ("+", True), ("eth", False)])
def test_interface_patterns(pattern, hit):
    fw = Firewall(rules(f"-A FORWARD -i {pattern} -j DROP"))
    assert fw.forward(udp()).accepted is not hit


def test_a_cut_transport_header_is_a_hotdrop_that_counts_nothing():
    fw = Firewall(rules("-A FORWARD -p udp -m udp --dport 1 -j ACCEPT", "-A FORWARD -j ACCEPT"))
    data = bytes(IP(src=C, dst=S, proto=17) / Raw(b"\0\1\0\2"))         # 4 of 8 bytes of UDP
    decision = fw.forward(data)
    assert decision.verdict == 0 and fw.reason(decision) == "hotdrop"
    assert fw.counters("FORWARD") == [(0, 0), (0, 0), (0, 0)]


def test_later_fragments_match_f_and_no_port():
    fw = Firewall(rules("-A FORWARD -p udp -m udp --dport 0:65535 -j ACCEPT", "-A FORWARD -f -j DROP", "-A FORWARD -j ACCEPT"))
    assert fw.forward(IP(src=C, dst=S, proto=17, frag=10) / Raw(b"z" * 16)).verdict == 0
    assert fw.counters("FORWARD") == [(0, 0), (1, 36), (0, 0), (0, 0)]


def test_mark_is_handed_back_and_seen_by_later_rules():
    fw = Firewall("*mangle\n:FORWARD ACCEPT [0:0]\n-A FORWARD -p udp -j MARK --set-xmark 0x10/0xf0\nCOMMIT\n"
                  + rules("-A FORWARD -m mark --mark 0x10/0xf0 -j ACCEPT", policy="DROP"))
    decision = fw.forward(udp(), mark=0x3)
    assert decision.accepted and decision.mark == 0x13 and decision.dirty == 1


@pytest.mark.parametrize("data", [
    b"", b"\x45", b"\x55" + bytes(IP(src=C, dst=S))[1:],                        # empty, short, version 5
    b"\x44" + bytes(IP(src=C, dst=S))[1:],                                      # IHL 4
    bytes(IP(src=C, dst=S, len=19)), bytes(IP(src=C, dst=S, len=100)),          # claims less than a header, more than there is
    bytes(IP(src=C, dst=S, chksum=1)),
])
def test_what_the_kernel_would_not_pass_to_a_hook_is_bad_ip(data):
    fw = Firewall(rules())
    decision = fw.forward(data, family=2)
    assert decision.verdict == 0 and fw.reason(decision) == "bad_ip"
    assert fw.counters("FORWARD") == [(0, 0)]


def test_link_padding_is_not_counted():
    fw = Firewall(rules())
    fw.forward(bytes(IP(src=C, dst=S) / ICMP()) + b"\0" * 18)
    assert fw.counters("FORWARD") == [(1, 28)]


def test_ipv6_walks_extension_headers_to_the_protocol():
    from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
    fw = Firewall(v6=rules("-A FORWARD -p tcp -m tcp --dport 22 -j DROP"))
    packet = IPv6(src="2001:db8:1::2", dst="2001:db8:2::2") / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / TCP(dport=22)
    assert fw.forward(packet).verdict == 0
    assert fw.counters("FORWARD", family=10)[0] == (1, 40 + 8 + 8 + 20)


def test_tables_run_in_the_kernels_order_and_a_drop_ends_all():
    fw = Firewall("*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp\nCOMMIT\n"
                  "*mangle\n:PREROUTING ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n-A FORWARD -p udp -j DROP\nCOMMIT\n"
                  + rules("-A FORWARD -j ACCEPT"))
    assert not fw.forward(udp()).accepted
    assert fw.counters("PREROUTING", "raw")[0] == (1, 36)
    assert fw.counters("PREROUTING", "mangle") == [(1, 36)]
    assert fw.counters("FORWARD", "filter") == [(0, 0), (0, 0)]
    assert fw.counters("POSTROUTING", "mangle") == [(0, 0)]
