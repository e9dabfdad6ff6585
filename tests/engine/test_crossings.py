"""Packets that cross several hooks: each step once, order tells them apart (design.md must 10)."""

from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Raw

from tests.engine.support import Firewall
from tests.engine.test_walk import rules

C, S = "10.0.1.2", "10.0.2.2"
ALL = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
TRACK = ("*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A PREROUTING -p udp\nCOMMIT\n*mangle\n:PREROUTING ACCEPT [0:0]\n"
         ":INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n"
         + rules("-A FORWARD -m conntrack --ctstate NEW -j ACCEPT", policy="DROP"))


def udp(sport=4000, size=8, ident=1):
    return IP(src=C, dst=S, id=ident) / UDP(sport=sport, dport=53) / Raw(b"x" * size)


def counts(fw):
    return [fw.counters(hook, "mangle")[-1][0] for hook in ALL]


def test_three_hooks_run_all_five_hooks_steps_once():
    fw = Firewall(TRACK)
    assert fw.forward(udp()).accepted
    assert counts(fw) == [1, 0, 1, 0, 1]
    assert fw.counters("PREROUTING", "raw")[0] == (1, 36)
    assert fw.engine.stats()["in_flight"] == 0
    assert fw.table.count == 1


def test_five_hooks_run_the_same_steps_in_three_crossings():
    fw = Firewall(TRACK, hooks=ALL)
    packet = udp()
    assert fw.prerouting(packet).accepted
    assert counts(fw) == [1, 0, 0, 0, 0]
    middle = fw.forward(packet)
    assert middle.accepted and middle.ctstate == "NEW"
    assert counts(fw) == [1, 0, 1, 0, 0]
    assert fw.cross(packet, 4, "eth0", "eth1").accepted
    assert counts(fw) == [1, 0, 1, 0, 1]
    assert fw.engine.stats()["in_flight"] == 0
    assert fw.table.count == 1
    assert fw.counters("FORWARD")[0] == (1, 36)


def test_a_packet_that_the_kernel_refused_leaves_no_entry():
    fw = Firewall(TRACK, hooks=ALL)
    assert fw.prerouting(udp()).accepted
    assert fw.engine.stats()["in_flight"] == 1
    fw.engine.idle(fw.now)
    assert fw.engine.stats()["in_flight"] == 0
    assert fw.table.count == 0


def test_loopback_is_tracked_once():
    fw = Firewall(rules("-A INPUT -m conntrack --ctstate NEW -j ACCEPT", "-A INPUT -j DROP"))
    packet = IP(src="127.0.0.1", dst="127.0.0.1", id=9) / TCP(sport=5, dport=6, flags="S")
    assert fw.local_out(packet, ifout="lo").accepted
    decision = fw.local_in(packet, ifin="lo")
    assert decision.accepted and decision.ctstate == "NEW"      # its own entry, not a reply and not a second one
    assert fw.table.count == 1
    assert fw.engine.stats()["in_flight"] == 0


def test_a_dropped_first_packet_leaves_no_entry():
    fw = Firewall(rules("-A FORWARD -m conntrack --ctstate NEW -j DROP"))
    assert not fw.forward(udp()).accepted
    assert fw.table.count == 0


def test_replies_and_errors_follow_the_connection():
    fw = Firewall(rules("-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
                        "-A FORWARD -i eth0 -m conntrack --ctstate NEW -j ACCEPT", policy="DROP"))
    syn = IP(src=C, dst=S) / TCP(sport=1000, dport=80, seq=1, flags="S", window=1000)
    assert not fw.back(IP(src=S, dst=C) / TCP(sport=80, dport=1000, flags="A")).accepted
    assert fw.forward(syn).ctstate == "NEW"
    answer = fw.back(IP(src=S, dst=C) / TCP(sport=80, dport=1000, seq=50, ack=2, flags="SA", window=1000))
    assert answer.accepted and answer.ctstate == "ESTABLISHED"
    from scapy.layers.inet import ICMP
    error = fw.back(IP(src="10.9.9.9", dst=C) / ICMP(type=3, code=1) / bytes(syn)[:28])
    assert error.accepted and error.ctstate == "RELATED"
    stray = fw.back(IP(src="10.9.9.9", dst=C) / ICMP(type=3, code=1) / bytes(IP(src=C, dst=S) / TCP(sport=2, dport=3))[:28])
    assert not stray.accepted and stray.ctstate == "INVALID"


def test_ttl_in_a_late_prerouting_is_the_one_before_forwarding():
    """PREROUTING's steps, run at FORWARD, see the hop count before the kernel took one off (checked by the trace's own facts)."""
    fw = Firewall(TRACK)
    packet = udp()
    packet.ttl = 63
    assert fw.forward(packet).accepted


def test_fragments_that_crossed_prerouting_one_by_one_are_not_counted_again_when_the_kernel_has_merged_them():
    """Nothing tracks: the fragments run raw PREROUTING each, the merged datagram at INPUT runs only INPUT (seen on the kernel)."""
    from scapy.layers.inet import fragment
    fw = Firewall("*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A PREROUTING -p udp\nCOMMIT\n" + rules(), hooks=ALL)
    whole = IP(src=C, dst="10.0.1.1", id=3) / UDP(sport=4, dport=5) / Raw(b"x" * 40)
    for piece in reversed(fragment(whole, fragsize=24)):
        assert fw.prerouting(piece).accepted
        fw.engine.idle(fw.now)                          # the sockets were read empty in between: its record is gone
    assert fw.local_in(whole).accepted
    assert fw.counters("PREROUTING", "raw")[0][0] == 2
    assert fw.counters("INPUT")[-1] == (1, 68)
    other = IP(src=C, dst="10.0.1.1", id=4) / UDP(sport=4, dport=5)
    assert fw.local_in(other).accepted                  # no fragments of it were seen: PREROUTING is run now
    assert fw.counters("PREROUTING", "raw")[0][0] == 3
