"""Virtual reassembly: spec/conntrack.md 3 (measured on the kernel), IPv4 and IPv6."""

import pytest
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6, IPv6ExtHdrFragment, in6_chksum
from scapy.packet import Raw

from nfqfw.packets import PREROUTING
from tests.engine.support import SECOND, Firewall
from tests.engine.test_walk import rules

C, S, C6, S6 = "10.0.1.2", "10.0.2.2", "2001:db8:1::2", "2001:db8:2::2"
BY_PORT = rules("-A FORWARD -p udp -m udp --dport 53 -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT", policy="DROP")
PAYLOAD = bytes(range(256)) * 4


def firewall():
    return Firewall(BY_PORT, BY_PORT)


def pieces4(cuts, dport=53, payload=PAYLOAD, **ip):
    """Fragments of one UDP datagram, cut at these byte offsets of its data."""
    whole = IP(src=C, dst=S, id=77, **ip) / UDP(sport=4, dport=dport) / Raw(payload)
    data = bytes(whole)[20:]
    ends = [*cuts, len(data)]
    out, start = [], 0
    for end in ends:
        out.append(IP(src=C, dst=S, id=77, proto=17, frag=start // 8, flags="MF" if end != len(data) else 0, **ip)
                   / Raw(data[start:end]))
        start = end
    return out


def send(fw, packets, **facts):
    """(verdicts, released): what each crossing said, and what was released in the end, in order."""
    verdicts = [fw.forward(packet, id=n, **facts).verdict for n, packet in enumerate(packets, 1)]
    return verdicts, fw.engine.take_released()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_any_order_is_judged_once_and_leaves_in_offset_order(order):
    fw = firewall()
    pieces = pieces4([400, 800])
    verdicts, released = send(fw, [pieces[i] for i in order])
    assert verdicts == [2, 2, 2]
    assert [r[0] for r in released] == [order.index(i) + 1 for i in range(3)]
    assert all(r[1] == 1 and r[2] is None for r in released)            # accepted, bytes untouched
    assert fw.counters("FORWARD") == [(1, 20 + 8 + len(PAYLOAD)), (0, 0)]
    assert fw.engine.stats()["fragments"]["held"] == 0 == fw.engine.stats()["fragments"]["bytes"]


def test_the_verdict_of_the_whole_is_everybodys():
    fw = firewall()
    _, released = send(fw, pieces4([400], dport=99))
    assert [r[1] for r in released] == [0, 0]
    assert fw.counters("FORWARD")[1] == (1, 28 + len(PAYLOAD))


def test_exact_duplicate_is_swallowed_and_the_datagram_lives():
    fw = firewall()
    a, b = pieces4([400])
    verdicts, released = send(fw, [a, a, b])
    assert verdicts == [2, 0, 2] and len(released) == 2


def test_partial_overlap_destroys_the_datagram():
    fw = firewall()
    a, b = pieces4([400])
    shifted = IP(src=C, dst=S, id=77, proto=17, frag=40, flags="MF") / Raw(b"\0" * 160)
    verdicts, released = send(fw, [a, shifted])
    assert verdicts == [2, 0] and [(r[0], r[1]) for r in released] == [(1, 0)]
    assert fw.forward(b).verdict == 2                                    # opens a new one, which stays alone
    assert fw.engine.stats()["fragments"]["held"] == 1


def test_two_different_ends_destroy_it_in_ipv4():
    fw = firewall()
    _, b = pieces4([400])
    other = IP(src=C, dst=S, id=77, proto=17, frag=200) / Raw(b"\0" * 8)
    verdicts, released = send(fw, [b, other])
    assert verdicts == [2, 0] and [r[1] for r in released] == [0]


def test_zero_length_fragment_destroys_it_in_ipv4():
    fw = firewall()
    a, _ = pieces4([400])
    empty = IP(src=C, dst=S, id=77, proto=17, frag=60, flags="MF")
    verdicts, released = send(fw, [a, empty])
    assert verdicts == [2, 0] and [r[1] for r in released] == [0]


def test_df_is_cleared_and_sizes_are_kept():
    fw = firewall()
    pieces = pieces4([400, 800])
    for piece in pieces:
        piece.flags = piece.flags | 2
    _, released = send(fw, pieces)
    out = [IP(r[2]) for r in released]
    assert [len(p) for p in out] == [420, 420, len(PAYLOAD) + 8 - 800 + 20]
    assert all(int(p.flags) & 2 == 0 for p in out)


@pytest.mark.parametrize("ecns, result", [((1, 1), 1), ((2, 3), 3), ((0, 2), None), ((0, 3), None)])
def test_ecn_of_the_fragments(ecns, result):
    fw = firewall()
    pieces = pieces4([400])
    for piece, ecn in zip(pieces, ecns, strict=True):
        piece.tos = ecn
    _, released = send(fw, pieces)
    if result is None:
        assert [r[1] for r in released] == [0, 0] or [r[1] for r in released] == [0]
    else:
        tos = [IP(r[2]).tos if r[2] else IP(bytes(p)).tos for r, p in zip(released, pieces, strict=True)]
        assert tos == [result, result]


def test_timeout_is_thirty_seconds_from_the_first_fragment():
    fw = firewall()
    a, b = pieces4([400])
    fw.forward(a, id=1)
    fw.now += 31 * SECOND
    fw.engine.idle(fw.now)
    released = fw.engine.take_released()
    assert [(r[0], r[1]) for r in released] == [(1, 0)]
    assert fw.engine.stats()["fragments"]["timed_out"] == 1


def pieces6(cuts, dport=53):
    whole = IPv6(src=C6, dst=S6) / UDP(sport=4, dport=dport) / Raw(PAYLOAD)
    data = bytes(whole)[40:]
    out, start = [], 0
    for end in [*cuts, len(data)]:
        out.append(IPv6(src=C6, dst=S6) / IPv6ExtHdrFragment(nh=17, id=5, offset=start // 8, m=int(end != len(data)))
                   / Raw(data[start:end]))
        start = end
    return out


def test_ipv6_fragments_are_judged_as_a_whole():
    fw = firewall()
    verdicts, released = send(fw, pieces6([400, 800]))
    assert verdicts == [2, 2, 2]
    assert all(r[1] == 1 and r[2] is None for r in released)
    assert fw.counters("FORWARD", family=10)[0] == (1, 40 + 8 + len(PAYLOAD))


def test_ipv6_atomic_fragment_leaves_without_its_header():
    fw = firewall()
    (piece,) = pieces6([])
    _, released = send(fw, [piece])
    assert released[0][1] == 1
    assert released[0][2] == bytes(IPv6(src=C6, dst=S6, nh=17) / Raw(bytes(piece)[48:]))


def test_ipv6_piece_that_is_no_multiple_of_eight_passes_as_invalid():
    fw = Firewall(v6=rules("-A FORWARD -m conntrack --ctstate INVALID -j ACCEPT", policy="DROP"))
    odd = IPv6(src=C6, dst=S6) / IPv6ExtHdrFragment(nh=17, id=5, offset=0, m=1) / Raw(b"x" * 13)
    decision = fw.forward(odd)
    assert decision.accepted and decision.ctstate == "INVALID"


def test_without_tracking_fragments_are_judged_one_by_one():
    fw = Firewall(rules("-A FORWARD -f -j DROP"))
    assert [fw.forward(p).verdict for p in pieces4([400])] == [1, 0]


def test_limit_of_pieces_per_datagram():
    fw = firewall()
    data = bytes(UDP(sport=4, dport=53) / Raw(b"y" * 1024))
    pieces = [IP(src=C, dst=S, id=77, proto=17, frag=n, flags="MF") / Raw(data[8 * n:8 * n + 8]) for n in range(66)]
    verdicts = [fw.forward(p).verdict for p in pieces]
    assert verdicts == [2] * 64 + [0, 0]
    assert fw.engine.stats()["drops"] == {"frag_limit": 2}


def test_a_flood_of_first_fragments_stays_within_the_limits():
    fw = firewall()
    for n in range(20000):
        piece = IP(src=f"10.{n % 200}.{n // 200 % 250}.7", dst=S, id=n & 0xFFFF, proto=17, flags="MF")
        fw.forward(bytes(piece / Raw(b"z" * 8)))
    held = fw.engine.stats()["fragments"]
    assert 0 < held["held"] <= 65535 // 8 and held["bytes"] <= 4 << 20


def test_scapys_own_fragments_come_through():
    fw = firewall()
    whole = IP(src=C, dst=S, id=3) / UDP(sport=4, dport=53) / Raw(b"q" * 4000)
    _, released = send(fw, fragment(whole, fragsize=1480))
    assert [r[1] for r in released] == [1, 1, 1]


def test_npt_reaches_what_a_fragmented_error_quotes():
    """A named difference: Linux translates a copy of a quoted header that lies behind the first fragment."""
    mangle = "*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j DNPT --src-pfx 2001:db8:1::/64 --dst-pfx 2001:db8:ffff::/64\nCOMMIT\n"
    fw = Firewall(v6=mangle + rules("-A FORWARD -m conntrack --ctstate ESTABLISHED"), hooks=("PREROUTING", "FORWARD"))
    error = IPv6(src=S6, dst=C6) / ICMPv6DestUnreach() / IPv6(src=C6, dst=S6) / UDP(sport=4, dport=53) / Raw(b"x" * 16)
    data = bytes(error)[40:]
    pieces = [IPv6(src=S6, dst=C6) / IPv6ExtHdrFragment(nh=58, id=9, offset=at // 8, m=at + 16 < len(data)) / Raw(data[at:at + 16])
              for at in range(0, len(data), 16)]
    for n, piece in enumerate(pieces, 1):
        fw.cross(piece, PREROUTING, "eth1", id=n)
    released = [r[2] for r in fw.engine.take_released()]
    assert len(released) == len(pieces)
    outer = IPv6(released[0]).dst
    whole = IPv6(src=S6, dst=outer, nh=58) / Raw(b"".join(r[48:] for r in released))
    quoted = whole.__class__(bytes(whole))[ICMPv6DestUnreach]
    assert outer.startswith("2001:db8:ffff:") and quoted.payload.src == outer and quoted.payload.dst == S6
    assert in6_chksum(58, IPv6(src=S6, dst=outer), bytes(whole)[40:]) in (0, 0xffff)
