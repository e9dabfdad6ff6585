"""What the fuzzers run: rulesets, a host, template packets.  Addresses are few, so that packets meet each other's flows."""

from __future__ import annotations

from importlib import import_module

from nfqfw.host import Host

DOORS = {"engine": "_fuzz_engine", "messages": "_fuzz_messages"}     # name -> module that build.py adds to the package
HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")


def table(name: str, chains, *rules: str) -> str:
    return "\n".join([f"*{name}", *(f":{chain} ACCEPT [0:0]" for chain in chains), *rules, "COMMIT", ""])


def full_rules(v6: bool) -> str:
    """Everything the engine evaluates that a hostile packet can reach: tracking, NAT, rewriting, REJECT, limits."""
    icmp = "-p ipv6-icmp -m icmp6 --icmpv6-type 128" if v6 else "-p icmp -m icmp --icmp-type 8"
    near, far = ("2001:db8:1::9", "2001:db8:2::2") if v6 else ("10.0.2.9", "10.0.2.2")
    hops = "HL --hl-set 9" if v6 else "TTL --ttl-set 9"
    fragment = "" if v6 else "-A PREROUTING -f\n"
    return (
        table("raw", ("PREROUTING", "OUTPUT"), f"{fragment}-A PREROUTING -p udp -m udp --dport 7 -j CT --notrack".strip())
        + table("mangle", HOOKS, f"-A PREROUTING -p udp -m udp --sport 9 -j {hops}", "-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 500",
                "-A FORWARD -p tcp -m tcp --dport 81 -j TCPOPTSTRIP --strip-options timestamp", "-A PREROUTING -j CONNMARK --restore-mark",
                "-A POSTROUTING -m mark --mark 0x1/0x1 -j CONNMARK --save-mark")
        + table("nat", ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
                f"-A PREROUTING -p tcp -m tcp --dport 8080 -j DNAT --to-destination {'[' + far + ']' if v6 else far}:80",
                f"-A POSTROUTING -p udp -j SNAT --to-source {near}", f"-A POSTROUTING {icmp} -j SNAT --to-source {near}")
        + table("filter", ("INPUT", "FORWARD", "OUTPUT"), "-A FORWARD -m conntrack --ctstate INVALID -j ACCEPT",
                "-A FORWARD -p tcp -m tcp --dport 23 -j REJECT --reject-with tcp-reset", "-A FORWARD -p udp -m udp --dport 9 -j REJECT",
                "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-A FORWARD -m limit --limit 10/sec -j LOG",
                "-A INPUT -p tcp -m multiport --dports 22,80:90 -j DROP", "-A FORWARD -p tcp -m tcp --tcp-option 5 -j DROP",
                f"-A INPUT {icmp} -j REJECT"))


def strict_rules() -> str:
    return ("*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT DROP [0:0]\n"
            "-A FORWARD -p udp -m udp --dport 53 -j ACCEPT\n-A FORWARD -p tcp -m tcp --dport 80 -j ACCEPT\nCOMMIT\n")


def host_block() -> bytes:
    return Host.offline({"lo": ["127.0.0.1/8", "::1/128"], "eth0": ["10.0.1.1/24", "2001:db8:1::1/64"],
                         "eth1": ["10.0.2.1/24", "2001:db8:2::1/64"]}).block


def templates() -> list[bytes]:
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import (ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NS, IPv6, IPv6ExtHdrDestOpt,
                                    IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting)
    from scapy.packet import Raw
    out = []
    for there, back in ((IP(src="10.0.1.2", dst="10.0.2.2", id=1), IP(src="10.0.2.2", dst="10.0.1.2", id=1)),
                        (IPv6(src="2001:db8:1::2", dst="2001:db8:2::2"), IPv6(src="2001:db8:2::2", dst="2001:db8:1::2"))):
        v6 = isinstance(there, IPv6)
        syn = there / TCP(sport=1000, dport=80, seq=1, flags="S", options=[("MSS", 1460), ("SAckOK", b""), ("WScale", 7)])
        out += [syn, back / TCP(sport=80, dport=1000, seq=9, ack=2, flags="SA", options=[("MSS", 1460)]),
                there / TCP(sport=1000, dport=80, seq=2, ack=10, flags="A"), back / TCP(sport=80, dport=1000, seq=10, ack=2, flags="PA") / Raw(b"hello"),
                there / TCP(sport=1000, dport=80, seq=2, ack=15, flags="FA"), back / TCP(sport=80, dport=1000, seq=10, flags="R"),
                there / TCP(sport=1000, dport=8080, flags="S"), there / UDP(sport=5, dport=53) / Raw(b"q" * 12),
                back / UDP(sport=53, dport=5) / Raw(b"a" * 12), there / UDP(sport=9, dport=9), there / Raw(b"x" * 24)]
        if v6:
            error = back / ICMPv6DestUnreach() / Raw(bytes(syn)[:60])
            out += [there / ICMPv6EchoRequest(id=3), back / ICMPv6EchoReply(id=3), error, there / ICMPv6ND_NS(tgt="2001:db8:1::1"),
                    there / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP(dport=53), there / IPv6ExtHdrRouting() / TCP(dport=80, flags="S"),
                    there / IPv6ExtHdrFragment(nh=17, id=1, m=1) / Raw(b"\0\5\0\x35" + b"z" * 20),
                    there / IPv6ExtHdrFragment(nh=17, id=1, offset=3) / Raw(b"z" * 16)]
        else:
            error = back / ICMP(type=3, code=3) / Raw(bytes(syn)[:28])
            out += [there / ICMP(id=3), back / ICMP(type=0, id=3), error, back / ICMP(type=3, code=4, nexthopmtu=600) / Raw(bytes(syn)[:28]),
                    IP(src="10.0.1.2", dst="10.0.2.2", id=7, proto=17, flags="MF") / Raw(b"\0\5\0\x35\0\x20\0\0" + b"z" * 16),
                    IP(src="10.0.1.2", dst="10.0.2.2", id=7, proto=17, frag=3) / Raw(b"z" * 16),
                    IP(src="10.0.1.2", dst="10.0.2.2", id=7, proto=17, frag=3, flags="MF") / Raw(b"z" * 16),
                    IP(src="10.0.1.2", dst="10.0.2.2", proto=132) / Raw(b"\0\1\0\2\0\0\0\0\0\0\0\0\1\0\0\x14" + b"\0" * 16),
                    IP(src="10.0.1.2", dst="10.0.2.2", proto=47) / Raw(b"\0\0\x08\0"), IP(src="10.0.1.2", dst="10.0.2.2", options=b"\x07\x07\x04\0\0\0\0\0") / UDP(dport=53)]
    return [bytes(packet) for packet in out]


# ---- the doors: what is compiled beside the package -------------------------------------------------------------------

def door(name: str):
    """The compiled module of a door of DOORS; only in a build of build.py."""
    return import_module(f"nfqfw.{DOORS[name]}")


def capsule(name: str):
    """Set a door up; the C fuzzer calls this from its initialiser and takes the function out of the capsule."""
    if name == "messages":
        return door(name).setup()
    return door(name).setup((full_rules(False), full_rules(True)), (strict_rules(), strict_rules()), templates(), host_block())


def stories() -> list[bytes]:
    """Inputs of the engine's door: each template alone, a handshake, fragments in both orders, an error about a flow."""
    n = len(templates())
    half = n // 2 + 1
    out = [bytes((hook | 8 | 16, number, 0)) for number in range(n) for hook in (0, 2)]
    for first in (0, half):
        out.append(b"".join(bytes((2 | 8 | 16, first + number, 0)) for number in range(6)))
    return out + [bytes((8 | 16, a, 0, 8 | 16, b, 0, 0xa0 | 8 | 16, a, 0)) for a in range(10, n) for b in (10, n - 1, n - 2)]


def datagrams() -> list[bytes]:
    """Inputs of the door of queue messages."""
    from tests.queue import test_messages as m
    everything = m.packet(1, m.IP + b"xyz", 4, *(m.number(kind, 7) for kind in (m.MARK, m.INDEV, m.OUTDEV, m.SKB_INFO, m.PRIORITY, m.UID, m.GID, 7, 8)),
                          m.attribute(m.HWADDR, b"\0\6\0\0\1\2\3\4\5\6\0\0"), family=10)
    cut = m.packet(2, m.IP, 2, m.number(m.CAP_LEN, 60000))
    several = b"".join(m.packet(i, m.IP + bytes((i,)) * i) for i in range(1, 8))
    return [b"\0" + datagram for datagram in (everything, cut, several, m.error(2) + everything + m.error(0), m.message(), b"")] + [
        b"\1\0\2\6" + bytes(range(93)), b"\1\0\x0a\x11" + bytes(range(93))]
