"""The kernel's counters: every accepted vector of a match, on packets made to meet and to miss it.

All rules of a vector file stand in one chain without a target, in raw PREROUTING unless PLACES says otherwise, so that each is asked about
each packet; then again turned round, since a rule that drops a malformed packet hides it from those behind it.  Every option
must have had both answers from the kernel, but for those in ONE_ANSWER.  Matches that go by time are in test_tables and test_state.
"""

from __future__ import annotations

import random
import struct

import pytest

from nfqfw.ext import registry
from nfqfw.rules import lexer
from nfqfw.selftest import kernel as twin
from nfqfw.selftest.case import CHAINS, Case, Step
from nfqfw.selftest.ours import OurTwin
from nfqfw.selftest.packets import IPV4, IPV6, Packet, build, ip4_header, ip6_header
from tests.ext import vectors

pytestmark = [pytest.mark.netns, pytest.mark.skipif(bool(twin.missing()), reason=f"kernel twin: {twin.missing()}")]

# what is asked of which kinds of packets
FILES = {
    "tcp": "tcp", "udp": "udp", "icmp": "icmp", "icmp6": "icmp", "multiport": "tcp udp sctp dccp udplite", "length": "tcp udp",
    "iprange": "tcp udp icmp",
    "string": "text", "tcpmss": "syn tcp", "addrtype": "ends", "esp": "spi", "ah": "spi", "ipcomp": "spi", "dccp": "dccp", "sctp": "sctp",
    "u32": "tcp udp text", "ttl": "udp", "hl": "udp", "tos": "udp", "dscp": "udp", "ecn": "tcp udp", "dst": "headers", "hbh": "headers",
    "frag": "headers fragment", "ipv6header": "headers fragment tcp", "mh": "mh", "quota": "udp tcp", "bpf": "udp tcp", "rt": "headers fragment", "statistic": "udp",
    "connlabel": "udp", "connmark": "udp", "state": "udp tcp", "connbytes": "talk", "cluster": "udp tcp icmp",
    "comment": "udp", "conntrack": "talk talk talk ends", "devgroup": "udp", "eui64": "eui64 udp", "mac": "udp", "mark": "udp", "owner": "udp",
    "physdev": "udp", "pkttype": "udp",
}
RAW, TRACKED, ON_ITS_WAY = ("raw", "PREROUTING", "client"), ("mangle", "PREROUTING", "client"), ("mangle", "FORWARD", "client")
PLACES = {                      # table, chain, where packets enter; in mangle a packet has its connection
    "connlabel": TRACKED, "connmark": TRACKED, "state": TRACKED, "connbytes": TRACKED, "cluster": TRACKED, "conntrack": TRACKED, "mark": TRACKED,
    "devgroup": ON_ITS_WAY, "physdev": ON_ITS_WAY, "owner": ("mangle", "OUTPUT", "local"),
}
BEFORE = {                      # rules in front that make a difference between packets
    "mark": ("-p udp --dport 53 -j MARK --set-xmark 0x1", "-p udp --dport 80 -j MARK --set-xmark 0xfffffff1"),
    "connmark": ("-p udp --dport 53 -j CONNMARK --set-xmark 0x1", "-p udp --dport 80 -j CONNMARK --set-xmark 0xffffffff"),
    "connlabel": ("-p udp --dport 53 -m connlabel --label 40 --set", "-p udp --dport 80 -m connlabel --label 127 --set"),
}
SKIPPED_WORDS = ("--suppl-groups", "UNREACHABLE", "BLACKHOLE", "THROW", "XRESOLVE", "--limit-iface", "random", "otherhost")
TURNS, PACKETS = 4, 48
ONE_ANSWER = {"comment": {"comment": "no"}}      # name -> option -> the answer that it cannot have


def transport(kind: str, rng: random.Random) -> tuple[int, bytes]:
    """Protocol number and bytes of a segment of this kind; one in ten is cut short."""
    number, data = KINDS[kind](rng)
    if rng.random() < 0.1:
        data = data[:rng.randrange(len(data) + 1)]
    return number, data


def ports(rng) -> bytes:
    return struct.pack(">HH", rng.choice((1, 2, 5, 22, 53, 80, 1023, 1024, 65535)), rng.choice((1, 2, 5, 8, 22, 53, 67, 80, 65535)))


def options(rng) -> bytes:
    out = b"".join(rng.choice((b"\1", b"\2\4\0\x2a", b"\2\4\5\xb4", b"\3\3\7", b"\4\2", b"\xff\2", b"\2\0", b"\x01", b"\5\1", b"\2\4\0\5"))
                   for _ in range(rng.randrange(5)))
    return out + bytes(-len(out) % 4)


def tcp(rng, syn=False):
    extra = options(rng)
    doff = (20 + len(extra)) // 4 if rng.random() < 0.9 else rng.randrange(16)
    flags = 2 if syn else rng.choice((0, 2, 16, 18, 4, 1, 0x3F, 0x17, 0x29, 0xC2, 0x42, rng.randrange(256)))
    return 6, ports(rng) + struct.pack(">IIBBHHH", 1, 2, doff << 4, flags, 99, 0, 0) + extra + bytes(rng.randrange(30))


def udp(rng):
    size = rng.choice((0, 0, 1, 4, 14, 40, 100))
    return 17, ports(rng) + struct.pack(">HH", 8 + size, 0) + bytes(rng.randrange(256) for _ in range(size))


def text(rng):
    words = rng.choice((b"GET /index.html", b"x", b"TCab ", b"tcAB ", b"jk", b"abc", b"a|b", b"ab c", b"\xde\xad", b"a\0b|c", b"\xc3\xa9",
                        b"xxxx", b"a\tb", b"a\"b\\c", b""))
    return 17, ports(rng) + struct.pack(">HH", 8, 0) + bytes(rng.randrange(50)) + words + bytes(rng.randrange(40))


def icmp(rng, family=IPV4):
    kind = rng.choice((0, 3, 5, 8, 11, 255, 200) if family == IPV4 else (1, 128, 129, 135, 137, 255))
    return 1 if family == IPV4 else 58, struct.pack(">BBHI", kind, rng.choice((0, 1, 3, 6, 255)), 0, 7) + bytes(rng.randrange(20))


def spi(rng):
    value = rng.choice((0, 1, 5, 6, 18, 19, 20, 32, 33, 255, 256, 0xFFFFFFFF))
    number = rng.choice((50, 51, 108))
    if number == 50:
        return 50, struct.pack(">II", value, 1) + bytes(12)
    if number == 51:
        return 51, struct.pack(">BBHII", 59, rng.choice((1, 4)), rng.choice((0, 1)), value, 9) + bytes(12)
    return 108, struct.pack(">BBH", 59, 0, value & 0xFFFF) + bytes(8)


def dccp(rng):
    kind, extended = rng.randrange(16), rng.randrange(2)
    doff = rng.choice((3, 4, 5, 6, 7, 8, 10))
    fixed = ports(rng) + struct.pack(">BBHBBH", doff, 0, 0, kind << 1 | extended, 0, 1)
    return 33, fixed + bytes(rng.choice((0, 0, 100, 255, 32)) for _ in range(rng.randrange(36)))


def sctp(rng):
    out = ports(rng) + struct.pack(">II", 7, 0)
    for _ in range(rng.randrange(4)):
        length = rng.choice((4, 4, 8, 5, 0 if rng.random() < 0.2 else 12))
        out += struct.pack(">BBH", rng.choice((0, 1, 2, 3, 6, 14, 64, 130, 193)), rng.choice((0, 1, 3, 4, 8, 255)), length)
        out += bytes(-(-length // 4) * 4 - 4 if length else 0)
    return 132, out


KINDS = {"tcp": tcp, "syn": lambda rng: tcp(rng, True), "udp": udp, "text": text, "spi": spi, "dccp": dccp, "sctp": sctp,
         "udplite": lambda rng: (136, ports(rng) + bytes(4 + rng.randrange(9))), "ends": udp,
         "mh": lambda rng: (135, bytes((rng.choice((59, 59, 59, 6)), 0, rng.choice((0, 1, 2, 3, 4, 5, 9, 255)), 0)) + bytes(rng.randrange(12)))}
HEADERS = {0: (b"\1\4\0\0\0\0", b"\5\2\0\0\1\0", b"\x17\x04abcd", b"\0\1\1\0\1\0"), 60: (b"\1\4\0\0\0\0", b"\x95\4\0\0\0\0", b"\x0c\x04abcd", b"\0\0\0\0\0\0"),
           43: (b"\0\0\0\0\0\0", b"\0\5\0\0\0\0", b"\1\15\0\0\0\0", b"\0\7\0\0\0\1",
                b"\0\1\0\0\0\0" + bytes(15) + b"\1", b"\0\2\0\0\0\0" + bytes(15) + b"\1" + b"\xfe\x80" + bytes(13) + b"\2")}


def headers(rng, inner: tuple[int, bytes]) -> tuple[int, bytes]:
    """Extension headers in front of a segment, in the order RFC 8200 asks for, so that hosts on the way do not object."""
    number, data = inner
    for header in sorted(rng.sample((60, 43, 0), rng.randrange(4)), key=(60, 43, 0).index):
        body = rng.choice(HEADERS[header])
        data = bytes((number, (len(body) + 2) // 8 - 1)) + body + data
        number = header
    return number, data


def fragment(rng, inner: tuple[int, bytes]) -> tuple[int, bytes]:
    number, data = inner
    word = rng.choice((0, 1, 8, 9, 16, 24 | 1, 6))
    return 44, struct.pack(">BBHI", number, rng.choice((0, 0, 1)), word, rng.choice((0, 1, 2, 42, 43, 0xFFFFFFFF))) + data


def packet(kinds: list[str], family: int, rng: random.Random) -> Packet:
    kind = rng.choice(kinds)
    if kind == "icmp":
        number, data = icmp(rng, family)
    elif kind in ("headers", "fragment"):
        number, data = transport(rng.choice(("udp", "tcp")), rng)
        number, data = headers(rng, (number, data)) if kind == "headers" else headers(rng, fragment(rng, (number, data)))
    else:
        number, data = transport(kind, rng)
    ends = ("C0", "C1", "S0", "N")
    frame = Packet(src=rng.choice(("C0", "C1", "C5")), dst=rng.choice((*ends, "R1", "R2", "B1") if kind == "ends" else ends[2:]),
                   ttl=rng.choice((64, 5, 7, 9, 255)), tos=rng.choice((0, 0x10, 0x1F, 2, 3, 0xB8, 0xFF, 1)))
    if family == IPV4:
        word = rng.choice((0, 0, 0, 0x4000, 0x2000, 1, 2, 0x2001)) if rng.random() < 0.3 else 0
        return Packet(proto="raw", raw=ip4_header(frame, number, len(data), 1 + rng.randrange(60000), word) + data)
    return Packet(proto="raw", raw=ip6_header(frame, number, len(data)) + data)


def step(name: str, family: int, rng: random.Random) -> Step:
    kinds = FILES[name].split()
    kind = rng.choice(kinds)
    if kind == "talk":                  # a few connections in both directions
        ends = {"src": "C0", "dst": rng.choice(("S0", "N")), "sport": rng.choice((1, 9, 2000)), "dport": rng.choice((9, 53))}
        back = {"src": ends["dst"], "dst": ends["src"], "sport": ends["dport"], "dport": ends["sport"]}
        proto = {"proto": rng.choice(("udp", "udp", "tcp")), "flags": rng.choice(("S", "S.", ".")), "seq": 1, "ack": 2, "length": rng.randrange(9)}
        return Step(0, "server", Packet(**back, **proto)) if rng.random() < 0.5 else Step(0, "client", Packet(**ends, **proto))
    if kind == "eui64":                 # whose address is made of the far end's link-layer address
        return Step(0, "client", Packet(src="2001:db8:a::ff:fe00:102", sport=1, dport=2))
    return Step(0, place(name)[2], packet([kind], family, rng))


def place(name: str) -> tuple[str, str, str]:
    return PLACES.get(name, RAW)


def rules_of(name: str, family: int) -> list[str]:
    """The match parts of the accepted vectors, without targets."""
    out = []
    for vector in vectors.read(vectors.HERE / f"{name}.t"):
        if vector.ok and vector.old is None and vector.family == (4 if family == IPV4 else 6) and " -j " not in " " + vector.wanted:
            if not any(word in vector.wanted for word in SKIPPED_WORDS) and lexer.split(vector.wanted):
                out.append(vector.wanted)
    return list(dict.fromkeys(out))


@pytest.fixture(scope="module")
def kernel():
    with twin.KernelTwin() as k:
        yield k


CASES = [(name, family) for name in FILES for family in (IPV4, IPV6) if rules_of(name, family)]


@pytest.mark.parametrize("name, family", CASES, ids=lambda value: str(value))
def test_counters_are_the_kernels(kernel, name, family):
    rules = rules_of(name, family)
    table, chain, _ = place(name)
    rng = random.Random(f"{name}{family}")
    hits: dict[str, int] = dict.fromkeys(rules, 0)
    for turn in range(TURNS):
        chosen = [*BEFORE.get(name, ()), *(rules if turn % 2 == 0 else rules[::-1])]
        heads = "".join(f":{chain} ACCEPT [0:0]\n" for chain in CHAINS[table])
        text = f"*{table}\n{heads}" + "".join(f"-A {chain} {rule}\n" for rule in chosen) + "COMMIT\n"
        case = Case(family, text, [step(name, family, rng) for _ in range(PACKETS)], name)
        theirs = kernel.run(case).counters[table, chain]
        ours = OurTwin().run(case).counters[table, chain]
        if ours != theirs:
            pytest.fail(explain(kernel, case, chosen, (table, chain)), pytrace=False)
        for rule, (packets, _) in zip(chosen, theirs):
            if rule in hits:
                hits[rule] += packets
    assert one_answer(name, family, hits) == ONE_ANSWER.get(name, {}), "options that had only one answer, and which"


def one_answer(name: str, family: int, hits: dict[str, int]) -> dict[str, str]:
    """Option -> the answer that it never had in a rule: what tests/ext/NAME.t or the packets should make up for."""
    out = {}
    for opt in registry.find_match(name, family).opts:
        spelled = {"--" + spelling for spelling in (opt.name, *opt.aliases)}
        counts = [count for rule, count in hits.items() if spelled & set(lexer.split(rule))]
        if counts and max(counts) == 0:
            out[opt.name] = "yes"
        elif counts and min(counts) == TURNS * PACKETS:
            out[opt.name] = "no"
    return out


def explain(kernel, case: Case, rules: list[str], chain: tuple[str, str]) -> str:
    """The first packet, alone, for which the two differ, and at which rules."""
    for one in case.steps:
        single = Case(case.family, case.rules, [one], case.name)
        theirs = kernel.run(single).counters[chain]
        ours = OurTwin().run(single).counters[chain]
        if ours != theirs:
            wrong = [f"  {rule}: kernel {a}, ours {b}" for rule, a, b in zip([*rules, "policy"], theirs, ours) if a != b]
            return build(one.packet, case.family).hex() + "\n" + "\n".join(wrong)
    theirs, ours = kernel.run(case).counters[chain], OurTwin().run(case).counters[chain]
    return "together:\n" + "\n".join(f"  {rule}: kernel {a}, ours {b}" for rule, a, b in zip([*rules, "policy"], theirs, ours) if a != b)
