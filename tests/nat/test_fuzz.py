"""Whatever comes in: NAT and the header targets judge it, and what they give back holds together.

Packets are valid ones with bytes changed, cut off or put in, fragments, and ICMP errors that quote such things.
"""

import random

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment
from scapy.packet import Raw

from tests.engine.support import Firewall
from tests.nat.test_rewrite import HOOKS, table

PACKETS = 3000
RULES4 = table("mangle", "-A PREROUTING -j TOS --set-tos 0x1c", "-A PREROUTING -j TTL --ttl-inc 3",
               "-A PREROUTING -p tcp -j ECN --ecn-tcp-remove", "-A PREROUTING -p tcp -j TCPOPTSTRIP --strip-options 2,3,4,5,8,19,30",
               "-A FORWARD -p tcp -m tcp --tcp-flags SYN SYN -j TCPMSS --set-mss 700", "-A FORWARD -j CONNMARK --save-mark",
               "-A POSTROUTING -p udp -j CHECKSUM --checksum-fill") + \
    table("nat", "-A PREROUTING -i eth0 -p tcp -j DNAT --to-destination 10.0.2.50-10.0.2.60:80-90",
          "-A PREROUTING -i eth0 -j DNAT --to-destination 10.0.2.50-10.0.2.60", "-A POSTROUTING -j MASQUERADE")
RULES6 = table("mangle", "-A PREROUTING -j TOS --set-tos 0x1c", "-A PREROUTING -j HL --hl-inc 3",
               "-A PREROUTING -p tcp -j TCPOPTSTRIP --strip-options 2,3,4", "-A PREROUTING -d 2001:db8:7::/64 -j DNPT --src-pfx 2001:db8:7::/64 "
               "--dst-pfx 2001:db8:2::/64", "-A FORWARD -p tcp -m tcp --tcp-flags SYN SYN -j TCPMSS --set-mss 700") + \
    table("nat", "-A PREROUTING -i eth0 -j DNAT --to-destination 2001:db8:2::50-2001:db8:2::60", "-A POSTROUTING -j MASQUERADE")


def seedling(rng: random.Random) -> bytes:
    v4 = rng.random() < 0.6
    head = IP(src="10.0.1.2", dst="10.0.2.2", ttl=rng.randrange(256), flags=rng.choice((0, 0, 0, 1)), frag=rng.choice((0, 0, 0, 1, 3))) \
        if v4 else IPv6(src="2001:db8:1::2", dst=rng.choice(("2001:db8:2::2", "2001:db8:7::2")), hlim=rng.randrange(256))
    if not v4 and rng.random() < 0.2:
        head = head / IPv6ExtHdrFragment(offset=rng.choice((0, 0, 2)), m=rng.randrange(2), id=rng.randrange(4))
    ports = {"sport": rng.randrange(4) + 1000, "dport": rng.randrange(3) + 80}
    kind = rng.randrange(6)
    if kind == 0:
        body = TCP(**ports, flags=rng.choice(("S", "SA", "A", "R", "F", "SEC")), options=[("MSS", 1400), ("WScale", 2), ("SAckOK", b"")])
    elif kind == 1:
        body = UDP(**ports) / Raw(rng.randbytes(rng.randrange(9)))
    elif kind == 2:
        body = ICMP(id=rng.randrange(4)) if v4 else ICMPv6EchoRequest(id=rng.randrange(4))
    elif kind == 3:
        head.payload.remove_payload() if head.payload else None
        head.nh, head.proto = rng.randrange(256), rng.randrange(256)
        body = Raw(rng.randbytes(rng.randrange(60)))
    else:
        quoted = (IP(src="10.0.2.2", dst="10.0.1.2") if v4 else IPv6(src="2001:db8:2::2", dst="2001:db8:1::2")) / UDP(sport=80, dport=1000)
        quoted = mutated(rng, bytes(quoted / Raw(b"quoted")))
        body = (ICMP(type=rng.choice((3, 5, 11, 12)), code=0) if v4 else ICMPv6DestUnreach()) / Raw(quoted)
    return bytes(head / body)


def mutated(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((0, 0, 1, 2, 5))):
        what = rng.randrange(3)
        at = rng.randrange(len(out)) if out else 0
        if what == 0 and out:
            out[at] = rng.randrange(256)
        elif what == 1:
            del out[at:at + rng.randrange(1, 30)]
        else:
            out[at:at] = rng.randbytes(rng.randrange(1, 12))
    return bytes(out)


def refit(rng: random.Random, data: bytes) -> bytes:
    """Often with lengths and header checksum made right again, so that it comes further than the first look."""
    if len(data) < 40 or rng.random() < 0.2:
        return data
    if data[0] >> 4 == 4 and (data[0] & 15) >= 5 and (data[0] & 15) * 4 <= len(data):
        out = bytearray(data)
        out[2:4] = len(out).to_bytes(2, "big")
        out[10:12] = b"\0\0"
        size = (out[0] & 15) * 4
        total = sum(int.from_bytes(out[i:i + 2], "big") for i in range(0, size, 2))
        while total >> 16:
            total = (total & 0xffff) + (total >> 16)
        out[10:12] = (~total & 0xffff).to_bytes(2, "big")
        return bytes(out)
    if data[0] >> 4 == 6:
        return data[:4] + (len(data) - 40).to_bytes(2, "big") + data[6:]
    return data


def holds_together(data: bytes) -> bool:
    if data[0] >> 4 == 6:
        return int.from_bytes(data[4:6], "big") + 40 == len(data)
    size = (data[0] & 15) * 4
    total = sum(int.from_bytes(data[i:i + 2], "big") for i in range(0, size, 2))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return int.from_bytes(data[2:4], "big") == len(data) and total == 0xffff


@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_is_judged_and_what_goes_back_holds_together(seed):
    rng = random.Random(seed)
    fw = Firewall(RULES4, RULES6, hooks=HOOKS)
    fw.table.set("nf_conntrack_checksum", seed & 1)
    changed = 0
    for _ in range(PACKETS):
        data = refit(rng, mutated(rng, seedling(rng)))
        if not data or data[0] >> 4 not in (4, 6):
            continue
        fw.now += rng.randrange(10**8)
        family = 2 if data[0] >> 4 == 4 else 10
        facts = {"skbinfo": rng.choice((0, 0, 1)), "total": len(data) + rng.choice((0, 0, 0, 5)), "family": family}
        side = rng.choice(("eth0", "eth1"))
        first = fw.prerouting(data, side, **facts)
        second = fw.cross(first.data or data, 2, side, "eth1" if side == "eth0" else "eth0", **facts | {"total": 0}) if first.accepted else first
        for decision in (first, second):
            if decision.accepted and decision.data is not None:
                changed += 1
                assert holds_together(decision.data), decision.data.hex()
        fw.engine.take_released()
    assert changed > 100
