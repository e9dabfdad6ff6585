"""REJECT replies, byte by byte (RFC 792, 4443, 9293; spec/iptables.md 4.6 for what the kernel does not answer)."""

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, ICMPerror, IPerror
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, IPv6
from scapy.packet import Raw

from tests.engine.support import SECOND, Firewall, host_block
from tests.engine.test_walk import rules

C, S = "10.0.1.2", "10.0.2.2"
C6, S6 = "2001:db8:1::2", "2001:db8:2::2"


def firewall(spec, **kw):
    return Firewall(rules(f"-A FORWARD {spec}", f"-A INPUT {spec}"), **kw)


def reply_of(fw, packet, **kw):
    decision = fw.forward(packet, **kw)
    assert decision.verdict == 0
    replies = fw.engine.take_replies()
    return replies[0][1] if replies else None


def test_reset_of_a_syn_is_the_kernels_forty_bytes():
    """The bytes were captured from the kernel: SYN 10.0.1.2:22359 -> 10.0.1.1:22, sequence 0x3e94f."""
    fw = firewall("-p tcp -j REJECT --reject-with tcp-reset")
    syn = IP(src="10.0.1.2", dst="10.0.1.1") / TCP(sport=0x5700, dport=0x16, seq=0x0003E94F, flags="S")
    reply = reply_of(fw, syn)
    back = IP(reply)
    assert reply[:12] == bytes.fromhex("450000280000400040060000")[:10] + reply[10:12]
    assert (back.src, back.dst, back.ttl, back.id, str(back.flags)) == ("10.0.1.1", "10.0.1.2", 64, 0, "DF")
    tcp = back[TCP]
    assert (tcp.sport, tcp.dport, tcp.seq, tcp.ack, str(tcp.flags), tcp.window) == (22, 0x5700, 0, 0x3E950, "RA", 0)
    assert bytes(IP(bytes(back.__class__(bytes(back))))) == reply       # checksums: scapy recomputes the same bytes
    del back[TCP].chksum, back.chksum
    assert bytes(back) == reply


def test_reset_of_a_segment_with_ack_takes_its_sequence_from_it():
    fw = firewall("-p tcp -j REJECT --reject-with tcp-reset")
    reply = IP(reply_of(fw, IP(src=C, dst=S) / TCP(sport=1, dport=2, seq=5, ack=777, flags="PA") / Raw(b"abc")))
    assert (reply[TCP].seq, reply[TCP].ack, str(reply[TCP].flags)) == (777, 0, "R")


def test_reset_without_ack_acknowledges_payload_syn_and_fin():
    fw = firewall("-p tcp -j REJECT --reject-with tcp-reset")
    reply = IP(reply_of(fw, IP(src=C, dst=S) / TCP(seq=100, flags="SF") / Raw(b"12345")))
    assert reply[TCP].ack == 107


@pytest.mark.parametrize("name, code", [("icmp-net-unreachable", 0), ("icmp-host-unreachable", 1), ("icmp-proto-unreachable", 2),
                                        ("icmp-port-unreachable", 3), ("icmp-net-prohibited", 9), ("icmp-host-prohibited", 10),
                                        ("icmp-admin-prohibited", 13)])
def test_icmp_unreachable_codes(name, code):
    fw = firewall(f"-j REJECT --reject-with {name}")
    sent = IP(src=C, dst=S, id=7, tos=0x1C) / UDP(sport=1, dport=2) / Raw(b"payload")
    raw = reply_of(fw, sent)
    reply = IP(raw)
    assert (reply.dst, reply.ttl, reply.tos, int(reply.flags), reply.proto) == (C, 64, 0xDC, 0, 1)
    assert reply.src == "0.0.0.0"                       # not ours: the kernel fills in the source by the route back
    assert (reply[ICMP].type, reply[ICMP].code) == (3, code)
    assert raw[28:] == bytes(sent)
    assert reply[IPerror].id == 7


def test_icmp_quotes_at_most_what_fits_into_576_bytes():
    fw = firewall("-j REJECT")
    raw = reply_of(fw, IP(src=C, dst=S) / UDP() / Raw(b"x" * 600))
    assert len(raw) == 576


def test_source_is_the_packets_destination_when_that_is_ours():
    fw = firewall("-j REJECT")
    decision = fw.local_in(IP(src=C, dst="10.0.1.1") / UDP(dport=9))
    assert decision.verdict == 0
    assert IP(fw.engine.take_replies()[0][1]).src == "10.0.1.1"


@pytest.mark.parametrize("packet", [
    IP(src=C, dst=S, proto=17, frag=4) / Raw(b"12345678"),                          # a later fragment
    IP(src=C, dst=S) / UDP(dport=9, chksum=0x1234) / Raw(b"bad"),                   # bad checksum
    IP(src=C, dst="10.0.2.255") / UDP(dport=9),                                     # broadcast
    IP(src=C, dst="224.0.0.5") / UDP(dport=9),                                      # multicast
    IP(src=C, dst=S) / ICMP(type=3) / Raw(b"x" * 28),                               # an error
    IP(src=C, dst=S) / ICMP(type=250),                                              # a type nobody knows
    IP(src=C, dst=S, proto=99) / Raw(b"not a checksum"),                            # unknown protocols are "checked" whole
], ids=["fragment", "checksum", "broadcast", "multicast", "error", "icmp250", "proto99"])
def test_no_reply(packet):
    assert reply_of(firewall("-j REJECT"), packet) is None


def test_udp_without_checksum_and_echo_are_answered():
    assert reply_of(firewall("-j REJECT"), IP(src=C, dst=S) / UDP(dport=9, chksum=0)) is not None
    assert reply_of(firewall("-j REJECT"), IP(src=C, dst=S) / ICMP()) is not None


@pytest.mark.parametrize("rule, packet", [
    ("-j REJECT", IP(src=C, dst="127.0.0.1") / UDP(dport=9)),
    ("-p tcp -j REJECT --reject-with tcp-reset", IP(src=C, dst="127.9.9.9") / TCP(flags="S")),
], ids=["icmp", "reset"])
def test_a_loopback_address_answers_nobody_elsewhere(rule, packet):
    """Linux finds no route for such an answer (tests/flows/reject_loopback.flow); to this host's own addresses it goes by lo."""
    fw = firewall(rule)
    assert reply_of(fw, packet) is None and fw.engine.stats()["rejects"] == {"no_route": 1}
    packet[IP].src = "10.0.1.1"
    assert IP(reply_of(fw, packet)).src == packet[IP].dst and fw.engine.stats()["rejects"]["sent"] == 1


def test_no_reset_for_a_reset():
    fw = firewall("-p tcp -j REJECT --reject-with tcp-reset")
    assert reply_of(fw, IP(src=C, dst=S) / TCP(flags="R")) is None


def test_icmpv6_unreachable_has_a_valid_checksum_and_the_interface_address():
    fw = Firewall(v6=rules("-A FORWARD -j REJECT"))
    sent = IPv6(src=C6, dst=S6) / ICMPv6EchoRequest(data=b"x" * 1400)
    raw = reply_of(fw, sent)
    reply = IPv6(raw)
    assert (reply.src, reply.dst, reply.hlim, len(raw)) == ("2001:db8:1::1", C6, 64, 1280)
    assert (reply[ICMPv6DestUnreach].type, reply[ICMPv6DestUnreach].code) == (1, 4)
    assert raw[48:] == bytes(sent)[:1232]
    del reply[ICMPv6DestUnreach].cksum
    assert bytes(reply) == raw


def test_peer_rate_is_six_at_once_and_then_one_per_second():
    fw = firewall("-j REJECT", host=host_block(icmp=(1000, 0x1818, 1000, 50, 1000)))
    packet = IP(src=C, dst=S) / UDP(dport=9)
    sent = sum(reply_of(fw, packet) is not None for _ in range(10))
    assert sent == 6
    fw.now += SECOND
    assert sum(reply_of(fw, packet) is not None for _ in range(3)) == 1
    assert fw.engine.stats()["rejects"]["rate_limited"] == 6


def test_the_reply_crosses_output_as_related_and_then_nothing_is_left():
    fw = Firewall(rules("-A OUTPUT -m conntrack --ctstate RELATED -j ACCEPT", "-A OUTPUT -j DROP",
                        "-A FORWARD -m conntrack --ctstate NEW -j REJECT"))
    assert fw.forward(IP(src=C, dst=S) / UDP(sport=7, dport=9)).verdict == 0
    reply = IP(fw.engine.take_replies()[0][1])
    reply.src, reply.id = "10.0.1.1", 4242              # what the kernel fills in
    del reply.chksum
    decision = fw.local_out(reply)
    assert decision.accepted and decision.ctstate == "RELATED"
    assert fw.counters("OUTPUT")[0][0] == 1
    assert fw.engine.stats()["in_flight"] == 0
    assert fw.table.count == 0
