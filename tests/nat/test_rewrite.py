"""What NAT and the header targets write holds together: checksums as scapy computes them anew, lengths, refusals."""

import random

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.packet import Raw

from nfqfw.host import Host
from nfqfw.reasons import REASONS
from tests.engine.support import Firewall

CSUMNOTREADY = 1
HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT")
C4, S4, N4 = "10.0.1.2", "10.0.2.2", "10.0.2.99"
C6, S6, N6 = "2001:db8:1::2", "2001:db8:2::2", "2001:db8:2::99"


def table(name, *rules):
    chains = {"nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
              "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")}[name]
    return f"*{name}\n" + "".join(f":{c} ACCEPT [0:0]\n" for c in chains) + "".join(r + "\n" for r in rules) + "COMMIT\n"


def anew(data: bytes) -> bytes:
    """The same packet with every checksum computed by scapy."""
    packet = IP(data) if data[0] >> 4 == 4 else IPv6(data)
    layer = packet
    while layer:
        for field in ("chksum", "cksum"):
            if field in layer.fields:
                del layer.fields[field]
        layer = layer.payload
    return bytes(packet)


def through(fw, data, **facts):
    """The packet behind PREROUTING and FORWARD, and the last decision."""
    decision = fw.prerouting(data, "eth0", **facts)
    if not decision.accepted:
        return None, decision
    data = decision.data or bytes(data)
    if decision.data:
        facts["skbinfo"] = 0
    decision = fw.forward(data, **facts)
    return decision.data or data, decision


def packets(rng, count):
    for i in range(count):
        v4 = rng.random() < 0.5
        head = IP(src=C4, dst=S4, id=rng.randrange(65536), tos=rng.randrange(256)) if v4 else IPv6(src=C6, dst=S6, tc=rng.randrange(256))
        body = Raw(rng.randbytes(rng.choice((0, 1, 2, 3, 20, 501, 1400))))
        kind = rng.choice(("tcp", "udp", "icmp"))
        if kind == "tcp":
            yield head / TCP(sport=1024 + i, dport=rng.randrange(1, 65536), flags="S", seq=rng.getrandbits(32)) / body
        elif kind == "udp":
            yield head / UDP(sport=1024 + i, dport=rng.randrange(1, 65536)) / body
        else:
            yield head / (ICMP(id=i, seq=1) if v4 else ICMPv6EchoRequest(id=i, seq=1)) / body


def both(*rules):
    return [table("nat", *(rule.format(n=n, d=d) for rule in rules)) for n, d in ((N4, "10.0.2.77"), (N6, "2001:db8:2::77"))]


@pytest.mark.parametrize("seed", range(4))
def test_translated_packets_have_the_checksums_of_a_packet_made_anew(seed):
    rng = random.Random(seed)
    v4, v6 = both("-A PREROUTING -i eth0 -j DNAT --to-destination {d}", "-A POSTROUTING -o eth1 -j SNAT --to-source {n} --random")
    fw = Firewall(v4, v6, hooks=HOOKS)
    for packet in packets(rng, 300):
        data = bytes(packet)
        out, decision = through(fw, data)
        assert decision.accepted
        assert out != data and out == anew(out)


def test_partial_checksums_are_completed_once_the_payload_goes_back():
    """SKB_CSUMNOTREADY: the field holds the pseudo-header's sum; what is returned must hold all of it (spec/nfqueue.md)."""
    v4, v6 = both("-A POSTROUTING -o eth1 -j SNAT --to-source {n}")
    fw = Firewall(v4, v6, hooks=HOOKS)
    for packet in packets(random.Random(9), 200):
        if ICMP in packet or ICMPv6EchoRequest in packet:
            continue
        data = bytearray(bytes(packet))
        at = (20 if data[0] >> 4 == 4 else 40) + (16 if TCP in packet else 6)
        data[at:at + 2] = b"\x12\x34"
        out, decision = through(fw, bytes(data), skbinfo=CSUMNOTREADY)
        assert decision.accepted and out == anew(out)


def test_a_wrong_checksum_stays_wrong_by_as_much():
    fw = Firewall(table("mangle", "-A PREROUTING -j TOS --set-tos 0x8"), hooks=HOOKS)
    packet = IP(src=C4, dst=S4) / UDP(sport=5, dport=6, chksum=0x1234) / Raw(b"x")
    out, _ = through(fw, bytes(packet))
    assert IP(out)[UDP].chksum == 0x1234 and IP(out).tos == 8


def test_udp_without_checksum_stays_without():
    v4, _ = both("-A POSTROUTING -o eth1 -j SNAT --to-source {n}")
    out, _ = through(Firewall(v4, hooks=HOOKS), bytes(IP(src=C4, dst=S4) / UDP(sport=5, dport=6, chksum=0) / Raw(b"x")))
    assert IP(out)[UDP].chksum == 0 and IP(out).src == N4


def test_a_packet_of_which_a_part_is_missing_is_not_returned():
    v4, _ = both("-A POSTROUTING -o eth1 -j SNAT --to-source {n}")
    data = bytes(IP(src=C4, dst=S4) / UDP(sport=5, dport=6) / Raw(b"x" * 1000))
    _, decision = through(Firewall(v4, hooks=HOOKS), data[:200], total=len(data))
    assert not decision.accepted and REASONS[decision.reason] == "truncated"


@pytest.mark.parametrize("head, address, room", [(IP(src=C4, dst=S4), IP, 40), (IPv6(src=C6, dst=S6), IPv6, 60)])
@pytest.mark.parametrize("options", [[("MSS", 1460)], [("NOP", None), ("MSS", 1460)], [("WScale", 7), ("MSS", 1460)], []])
def test_mss_is_set_or_added_with_a_valid_checksum(head, address, room, options):
    """Also where the option stands on an odd byte: there Linux writes a wrong checksum, nfqfw does not."""
    rules = table("mangle", "-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 400")
    out, decision = through(Firewall(rules, rules, hooks=HOOKS), bytes(head / TCP(flags="S", options=options)))
    assert decision.accepted and out == anew(out)
    found = dict(o for o in address(out)[TCP].options if o[0] == "MSS")
    assert found["MSS"] == 400


@pytest.mark.parametrize("mtu, back, wanted", [(1400, 1500, 1360), (1500, 1300, 1260), (1500, 9000, 1460)])
def test_clamp_takes_the_smaller_of_both_routes(mtu, back, wanted):
    host = Host.offline({"eth0": {"addresses": ["10.0.1.1/24"], "mtu": back}, "eth1": {"addresses": ["10.0.2.1/24"], "mtu": mtu}},
                        routes=["10.0.1.0/24 dev eth0", "10.0.2.0/24 dev eth1"])
    rules = table("mangle", "-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu")
    fw = Firewall(rules, hooks=HOOKS, host=host.block)
    out, _ = through(fw, bytes(IP(src=C4, dst=S4) / TCP(flags="S", options=[("MSS", 8960)])))
    assert IP(out)[TCP].options == [("MSS", wanted)] and out == anew(out)


def test_prefix_translation_changes_no_transport_checksum_and_is_undone():
    """RFC 6296: the transport checksum stays as it is, and stays right."""
    there = table("mangle", "-A POSTROUTING -s 2001:db8:1::/64 -o eth1 -j SNPT --src-pfx 2001:db8:1::/64 --dst-pfx fd00:7::/64")
    back = table("mangle", "-A PREROUTING -j DNPT --src-pfx fd00:7::/64 --dst-pfx 2001:db8:1::/64")
    for packet in packets(random.Random(3), 100):
        if IPv6 not in packet:
            continue
        out, decision = through(Firewall("", there, hooks=HOOKS), bytes(packet))
        assert decision.accepted and IPv6(out).src.startswith("fd00:7:") and out == anew(out)
        assert out[40:] == bytes(packet)[40:]
        answer = IPv6(src=S6, dst=IPv6(out).src) / UDP(sport=1, dport=2)
        home, _ = through(Firewall("", back, hooks=HOOKS), bytes(answer))
        assert IPv6(home).dst == C6 and home == anew(home)


def masquerading(addresses, routes=()):
    host = Host.offline({"eth0": ["10.0.1.1/24"], "eth1": addresses}, routes=list(routes))
    return Firewall(table("nat", "-A POSTROUTING -j MASQUERADE"), hooks=HOOKS, host=host.block)


@pytest.mark.parametrize("routes, wanted", [(("0.0.0.0/0 via 10.0.5.9 dev eth1",), "10.0.5.1"), (("0.0.0.0/0 via 10.0.2.2 dev eth1",), "10.0.2.1"),
                                            ((), "10.0.2.1")])
def test_masquerade_takes_the_address_towards_the_next_hop(routes, wanted):
    """spec/conntrack.md 2, t13: next hop 10.0.5.9 gives 10.0.5.1."""
    fw = masquerading(["10.0.2.1/24", "10.0.5.1/24"], routes)
    out, _ = through(fw, bytes(IP(src=C4, dst="192.0.2.7") / UDP(sport=5, dport=6)))
    assert IP(out).src == wanted


def test_a_masqueraded_flow_that_leaves_elsewhere_is_dropped_and_forgotten():
    fw = masquerading(["10.0.2.1/24"])
    data = bytes(IP(src=C4, dst=S4) / UDP(sport=5, dport=6))
    assert through(fw, data)[1].accepted
    fw.prerouting(data, "eth0")
    decision = fw.cross(data, 2, "eth0", "lo")
    assert not decision.accepted and REASONS[decision.reason] == "masq_moved"
    assert fw.table.list(now_ns=fw.now) == []


def test_without_any_address_masquerade_drops():
    host = Host.offline({"eth0": [], "eth1": []})
    fw = Firewall(table("nat", "-A POSTROUTING -j MASQUERADE"), hooks=HOOKS, host=host.block)
    _, decision = through(fw, bytes(IP(src=C4, dst=S4) / UDP(sport=5, dport=6)))
    assert REASONS[decision.reason] == "nat_no_address"


def test_forgetting_an_address_ends_its_connections_and_no_others():
    from nfqfw._nat import forget_masquerade

    fw = masquerading(["10.0.2.1/24", "10.0.5.1/24"], ["192.0.2.0/24 via 10.0.5.9 dev eth1"])
    for target in (S4, "192.0.2.7"):
        assert through(fw, bytes(IP(src=C4, dst=target) / UDP(sport=5, dport=6)))[1].accepted
    assert forget_masquerade(fw.table, 3, bytes((10, 0, 9, 9))) == 0
    assert forget_masquerade(fw.table, 2, bytes((10, 0, 2, 1))) == 0
    assert forget_masquerade(fw.table, 3, bytes((10, 0, 2, 1))) == 1
    assert [entry.reply.dst for entry in fw.table.list(now_ns=fw.now)] == ["10.0.5.1"]
    assert forget_masquerade(fw.table, 3) == 1


def test_the_source_index_can_be_made_anew():
    """After a takeover the mapping that a source has is found again."""
    from nfqfw._nat import rebuild

    v4, _ = both("-A POSTROUTING -o eth1 -j SNAT --to-source {n}")
    fw = Firewall(v4, hooks=HOOKS)
    through(fw, bytes(IP(src="10.0.1.3", dst=S4) / UDP(sport=4000, dport=53)))
    moved, _ = through(fw, bytes(IP(src=C4, dst=S4) / UDP(sport=4000, dport=53)))
    rebuild(fw.table)
    again, _ = through(fw, bytes(IP(src=C4, dst="10.0.2.3") / UDP(sport=4000, dport=53)))
    assert IP(moved).sport != 4000 and IP(again).sport == IP(moved).sport


def test_labels_go_to_the_connection_and_back():
    """SECMARK on the first packet, saved; the answer gets it back, and a rule there cannot replace what is saved."""
    from nfqfw.conntrack.listing import line

    rules = table("mangle", "-A PREROUTING -i eth0 -j SECMARK --selctx system_u:object_r:web_t:s0",
                  "-A PREROUTING -j CONNSECMARK --restore", "-A POSTROUTING -j CONNSECMARK --save")
    fw = Firewall(rules, hooks=HOOKS)
    assert through(fw, bytes(IP(src=C4, dst=S4) / UDP(sport=5, dport=6)))[1].accepted
    text, = (line(entry, fw.now) for entry in fw.table.list(now_ns=fw.now))
    assert " mark=0 secctx=system_u:object_r:web_t:s0 use=1" in text
