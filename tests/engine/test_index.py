"""The index changes nothing but time: verdicts and every counter equal with and without it (design.md section 6)."""

import ipaddress
import random

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from nfqfw.compile import compile_rulesets
from nfqfw.rules import load
from tests.engine.support import Firewall

BASES4 = ("10.0.{}.{}", "10.1.{}.{}", "192.168.{}.{}", "172.16.{}.{}")
PORTS = (22, 53, 80, 443, 1000, 1024, 8080, 40000, 65535, 0)


def address(rng, v6):
    if v6:
        return f"2001:db8:{rng.randrange(4):x}::{rng.randrange(6):x}"
    return rng.choice(BASES4).format(rng.randrange(4), rng.randrange(8))


def network(rng, v6):
    if v6:
        return f"{address(rng, v6)}/{rng.choice((16, 48, 64, 127, 128))}"
    return f"{address(rng, v6)}/{rng.choice((0, 8, 12, 16, 22, 24, 29, 32, 32))}"


def ports(rng):
    low, high = sorted((rng.choice(PORTS), rng.choice(PORTS)))
    return rng.choice((str(low), f"{low}:{high}", f"{low}:", f":{high}"))


def random_rule(rng, chain, jumps, v6):
    words = [f"-A {chain}"]
    for flag in ("-s", "-d"):
        if rng.random() < 0.6:
            words.append(rng.choice(("", "! ")) + f"{flag} {network(rng, v6)}")
    if rng.random() < 0.2:
        words.append(rng.choice(("", "! ")) + f"-i {rng.choice(('eth0', 'eth1', 'eth+'))}")
    if rng.random() < 0.15:
        words.append(rng.choice(("", "! ")) + f"-o {rng.choice(('eth0', 'eth1', 'eth1', 'e+'))}")
    proto = rng.choice(("tcp", "udp", "", "icmpv6" if v6 else "icmp"))
    if proto:
        words.append(f"-p {proto}")
    if proto in ("tcp", "udp") and rng.random() < 0.7:
        kind = rng.randrange(4)
        if kind == 0:
            words.append(f"-m multiport {rng.choice(('', '! '))}--{rng.choice(('dports', 'sports', 'ports'))} 22,80:443,8080")
        else:
            words.append(f"-m {proto}")
            for flag in ("--dport", "--sport"):
                if rng.random() < 0.6:
                    words.append(rng.choice(("", "! ")) + f"{flag} {ports(rng)}")
            if proto == "tcp" and rng.random() < 0.3:
                words.append(rng.choice(("", "! ")) + rng.choice(("--syn", "--tcp-flags SYN,RST SYN", "--tcp-flags ALL SYN,ACK", "--tcp-flags FIN FIN")))
            if proto == "tcp" and rng.random() < 0.1:
                words.append(rng.choice(("", "! ")) + "--tcp-option 2")
    elif proto and proto.startswith("icmp") and rng.random() < 0.5:
        words.append(rng.choice(("-m icmp6 --icmpv6-type 128", "-m icmp6 ! --icmpv6-type 128", "-m icmp6 --icmpv6-type 1/4") if v6 else
                                ("-m icmp --icmp-type 8", "-m icmp ! --icmp-type 8", "-m icmp --icmp-type 3/1", "-m icmp --icmp-type 3", "-m icmp --icmp-type any")))
    if rng.random() < 0.1:
        ends = sorted((address(rng, v6), address(rng, v6)), key=lambda text: ipaddress.ip_address(text))
        words.append(f"-m iprange {rng.choice(('', '! '))}--{rng.choice(('src', 'dst'))}-range {'-'.join(ends)}")
    if rng.random() < 0.2:
        words.append(f"-m conntrack {rng.choice(('', '! '))}--ctstate {rng.choice(('NEW', 'ESTABLISHED', 'NEW,INVALID', 'RELATED,ESTABLISHED'))}")
    if rng.random() < 0.1:
        words.insert(1, "-m mark --mark 0x1/0x1")
    target = rng.choice(("ACCEPT", "DROP", "RETURN", "", "MARK", "jump", "goto", "", ""))
    if target == "MARK":
        words.append("-j MARK --set-xmark 0x1/0x1")
    elif target in ("jump", "goto") and jumps:
        words.append(f"{'-j' if target == 'jump' else '-g'} {rng.choice(jumps)}")
    elif target and target not in ("jump", "goto"):
        words.append(f"-j {target}")
    return " ".join(words)


def random_ruleset(rng, v6, size=60):
    chains = ["a", "b", "c"]
    lines = ["*mangle", *(f":{c} ACCEPT [0:0]" for c in ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")),
             *(f":{c} - [0:0]" for c in chains)]
    for n, chain in enumerate(("FORWARD", *chains)):
        lines += [random_rule(rng, chain, chains[n:], v6) for _ in range(rng.randrange(1, size))]
    return "\n".join([*lines, "COMMIT", ""])


def random_packet(rng, v6):
    ip = IPv6(src=address(rng, True), dst=address(rng, True)) if v6 else IP(src=address(rng, False), dst=address(rng, False))
    kind = rng.randrange(10)
    if kind < 4:
        packet = ip / TCP(sport=rng.choice(PORTS), dport=rng.choice(PORTS), flags=rng.choice(("S", "A", "SA", "R", "SP")), dataofs=rng.choice((None, None, None, 4, 6)))
    elif kind < 8:
        packet = ip / UDP(sport=rng.choice(PORTS), dport=rng.choice(PORTS))
    elif kind < 9 or v6:
        packet = ip / (Raw(rng.choice((b"\x80\0", b"\1\4", b"\1\0")) + b"\0\0\0\1\0\1") if v6 else ICMP(type=rng.choice((8, 3, 0)), code=rng.randrange(2)))
        if v6:
            packet.nh = 58
    else:
        packet = IP(src=ip.src, dst=ip.dst, proto=17, frag=rng.randrange(3), flags=rng.choice((0, "MF"))) / Raw(b"\0\x35" * rng.randrange(1, 9))
    raw = bytes(packet)
    return raw[:len(raw) - 9] if kind == 7 and not v6 and rng.random() < 0.1 else raw


def firewall(text, v6, index_from):
    fw = Firewall(v6=text) if v6 else Firewall(text)
    from nfqfw._engine import LoadedProgram
    fw.program = compile_rulesets([load(text, "r", 10 if v6 else 2)], index_from=index_from)
    fw.loaded = LoadedProgram(fw.program)
    fw.engine.load(fw.loaded)
    return fw


@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
@pytest.mark.parametrize("seed", range(40))
def test_index_on_and_off_are_identical(seed, v6):
    rng = random.Random(f"index {seed} {v6}")
    text = random_ruleset(rng, v6)
    indexed, linear = firewall(text, v6, 1), firewall(text, v6, 1 << 30)
    assert len(indexed.program.block) > len(linear.program.block)
    for _ in range(150):
        packet = random_packet(rng, v6)
        mark = rng.randrange(2)
        ends = rng.choice(("eth0", "eth1", "lo")), rng.choice(("eth1", "eth1", "eth0"))
        a, b = (fw.forward(packet, *ends, mark=mark, family=10 if v6 else 2) for fw in (indexed, linear))
        assert (a.verdict, a.reason, a.mark) == (b.verdict, b.reason, b.mark), packet.hex()
    assert indexed.loaded.counters_list() == linear.loaded.counters_list()


def test_a_limit_in_front_of_a_port_sees_every_packet():
    text = "\n".join(["*filter", ":FORWARD ACCEPT [0:0]",
                      "-A FORWARD -p udp -m limit --limit 1/hour --limit-burst 2 -m udp --dport 80 -j DROP",
                      *(f"-A FORWARD -p udp -m udp --dport {n} -j DROP" for n in range(100, 130)), "COMMIT", ""])
    fw = firewall(text, False, 1)
    other, wanted = (IP(src="10.0.1.2", dst="10.0.2.2") / UDP(sport=1, dport=port) for port in (81, 80))
    assert fw.forward(other).accepted and fw.forward(other).accepted       # both took a token
    assert fw.forward(wanted).accepted
