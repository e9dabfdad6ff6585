"""The kernel's counters: every accepted vector of a match that reads packet bytes, on packets made to meet and to miss it.

All rules of a vector file stand in one chain without a target, in raw PREROUTING, so that each is asked about each packet; then again
turned round, since a rule that drops a malformed packet hides it from those behind it.
"""

from __future__ import annotations

import random
import struct

import pytest

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
    "connlabel": "udp", "connmark": "udp", "state": "udp tcp", "connbytes": "udp", "cluster": "udp tcp icmp",
}
TRACKED = {"connlabel", "connmark", "state", "connbytes", "cluster"}    # asked in mangle, where the packet has its connection
SKIPPED_WORDS = ("0x80000000", "UNREACHABLE", "BLACKHOLE", "THROW", "XRESOLVE", "--limit-iface", "random", "otherhost")
PACKETS = 48


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
    rng = random.Random(f"{name}{family}")
    hits = 0
    for turn in range(4):
        chosen = rules if turn % 2 == 0 else rules[::-1]
        table = "mangle" if name in TRACKED else "raw"
        heads = "".join(f":{chain} ACCEPT [0:0]\n" for chain in CHAINS[table])
        text = f"*{table}\n{heads}" + "".join(f"-A PREROUTING {rule}\n" for rule in chosen) + "COMMIT\n"
        steps = [Step(0, "client", packet(FILES[name].split(), family, rng)) for _ in range(PACKETS)]
        case = Case(family, text, steps, name)
        theirs = kernel.run(case).counters[table, "PREROUTING"]
        ours = OurTwin().run(case).counters[table, "PREROUTING"]
        if ours != theirs:
            pytest.fail(explain(kernel, case, chosen, table), pytrace=False)
        hits += sum(packets > 0 for packets, _ in theirs[:-1])
    assert hits >= len(rules) // 2, "rules should be met"


def explain(kernel, case: Case, rules: list[str], table: str) -> str:
    """The first packet, alone, for which the two differ, and at which rules."""
    for step in case.steps:
        single = Case(case.family, case.rules, [step], case.name)
        theirs = kernel.run(single).counters[table, "PREROUTING"]
        ours = OurTwin().run(single).counters[table, "PREROUTING"]
        if ours != theirs:
            wrong = [f"  {rule}: kernel {a}, ours {b}" for rule, a, b in zip([*rules, "policy"], theirs, ours) if a != b]
            return build(step.packet, case.family).hex() + "\n" + "\n".join(wrong)
    return "the packets differ only together"
