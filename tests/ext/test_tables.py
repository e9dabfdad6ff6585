"""The kernel's counters for matches that remember: recent, limit, hashlimit, connlimit, packet by packet and with time between them.

These matches go by jiffies, and when a packet meets its rules is up to the machine.  So the kernel is asked: a rule of `recent` in
front of all others stamps every packet of the case, and our engine is given the packets in those very jiffies.  What both count
then follows from the same times by the same arithmetic, however busy the machine is.  Three things remain, and have bounds:
a packet whose walk a tick divides (the case is run again: ATTEMPTS), the kernel's clean-ups, which its work queue runs
when it can (cases that depend on one leave MARGIN seconds for it, others keep their entries), and time-outs of connections, kept in hundredths of a second here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path

import pytest

from nfqfw.selftest import kernel as twin
from nfqfw.selftest.case import Case, Step
from nfqfw.selftest.ours import OurTwin
from nfqfw.selftest.packets import IPV4, IPV6, Packet

pytestmark = [pytest.mark.netns, pytest.mark.skipif(bool(twin.missing()), reason=f"kernel twin: {twin.missing()}")]
FAMILIES = (IPV4, IPV6)
HZ, JIFFY_NS = 250, 4_000_000   # the engine counts as a kernel with 250 jiffies a second does
ATTEMPTS = 3                    # a tick within a packet's walk: less than one case in fifty; a real difference stays in every attempt
MARGIN = 1.5                    # seconds given to a clean-up of the kernel that is due
STAMPS = 255                    # the most that a rule of recent keeps
NUMBERS = count()
RAW = "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"
Met = tuple[int, ...] | Callable[[list[int]], tuple[int, ...]]


@pytest.fixture(scope="module")
def kernel():
    with twin.KernelTwin() as k:
        slowest, fastest = measured_hz(k)
        if not slowest <= HZ <= fastest:
            pytest.skip(f"this kernel has {slowest:.0f} jiffies a second or more, the engine counts as one with {HZ} does")
        yield k


def raw(*rules: str) -> str:
    return RAW + "".join(f"-A PREROUTING {rule}\n" for rule in rules) + "COMMIT\n"


def forward(*rules: str) -> str:
    return ("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"
            + "".join(f"-A FORWARD {rule}\n" for rule in rules) + "COMMIT\n")


# ---- the kernel's jiffies --------------------------------------------------------------------------------------------

def stamped(case: Case, name: str) -> Case:
    """The case with two rules in front: one that makes room for STAMPS, and never matches, and one that stamps each packet."""
    assert len(case.steps) < STAMPS and all(step.point != "local" for step in case.steps)
    one = f"-m recent --name {name} --mask {'0.0.0.0' if case.family == IPV4 else '::'}"
    clock = f"-A PREROUTING {one} --rcheck --hitcount {STAMPS}\n-A PREROUTING {one} --set\n"
    rules = case.rules if RAW in case.rules else case.rules + raw()
    return replace(case, rules=rules.replace(RAW, RAW + clock))


def stamps(kernel, name: str) -> list[int]:
    """The jiffies in which the kernel met the packets of a case that it has just run."""
    with kernel.inside():
        (line,) = Path(f"/proc/thread-self/net/xt_recent/{name}").read_text().splitlines()
    return [int(word.rstrip(",")) for word in line.partition("oldest_pkt:")[2].split()[1:]]


def at_jiffies(case: Case, jiffies: list[int]) -> Case:
    """The case with delays by which our twin, which begins on a jiffy, meets each packet in its jiffy; ns apart within one."""
    moments = [(jiffy - jiffies[0]) * JIFFY_NS + number for number, jiffy in enumerate(jiffies, 1)]
    delays = [(after - before + 0.5) * 1e-9 for before, after in pairwise([0, *moments])]
    return replace(case, steps=[replace(step, delay=delay) for step, delay in zip(case.steps, delays, strict=True)])


def measured_hz(kernel) -> tuple[float, float]:
    """Bounds of this kernel's jiffies in a second: between two packets lies half a second at least, the whole case at most."""
    case = stamped(Case(IPV4, raw(), [udp(), udp(0.5)]), "hz")
    begin = time.monotonic()
    kernel.run(case)
    elapsed = time.monotonic() - begin
    first, last = stamps(kernel, "hz")
    return (last - first - 1) / elapsed, (last - first + 1) / 0.5


# ---- both ------------------------------------------------------------------------------------------------------------

def compare(kernel, case: Case, chain: tuple[str, str], met: Met | None = None) -> None:
    """Equal counters, rule by rule; met: packets per rule that the kernel must show, so that the case tells what it is for."""
    seen = []
    for _ in range(ATTEMPTS):
        kernel.run(Case(case.family, "", []))       # no rule uses the tables of an earlier attempt: they are gone
        wrong = differences(kernel, case, chain, met)
        if not wrong:
            return
        seen.append("\n".join(wrong))
    pytest.fail("\n\n".join(seen), pytrace=False)


def differences(kernel, case: Case, chain: tuple[str, str], met: Met | None) -> list[str]:
    jiffies = [0]
    if all(step.point != "local" for step in case.steps):
        name = f"clock{next(NUMBERS)}"
        case = stamped(case, name)
        theirs = kernel.run(case).counters[chain]
        jiffies = stamps(kernel, name)
        case = at_jiffies(case, jiffies)
    else:
        theirs = kernel.run(case).counters[chain]
    ours = OurTwin().run(case).counters[chain]
    rules = rules_in(case, chain)
    wrong = [f"{rule}: kernel {a}, ours {b}" for rule, a, b in zip([*rules, "policy"], theirs, ours, strict=True) if a != b]
    packets = tuple(packets for rule, (packets, _) in zip(rules, theirs) if "--name clock" not in rule)
    expected = met(jiffies) if callable(met) else met
    if expected is not None and packets != expected:
        wrong.append(f"the kernel itself counted {packets}, expected {expected}")
    return wrong and [*wrong, f"jiffies: {' '.join(str(jiffy - jiffies[0]) for jiffy in jiffies)}"]


def rules_in(case: Case, chain: tuple[str, str]) -> list[str]:
    body = case.rules.partition(f"*{chain[0]}\n")[2].partition("COMMIT\n")[0]
    return [line for line in body.splitlines() if line.startswith(f"-A {chain[1]} ")]


def udp(delay: float = 0, src: str = "C0", point: str = "client", **fields) -> Step:
    return Step(delay, point, Packet(src=src, **{"dst": "S0", "sport": 1000, "dport": 53, "length": 10, **fields}))


# ---- recent ----------------------------------------------------------------------------------------------------------

def lists(name: str, command: str, rest: str = "") -> str:
    return f"-m recent {command} --name {name} {rest}"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_recent_random(kernel, family, seed):
    """Every command, inverted too, with hits, ages, reaping, masks and sides, on two lists that rules share."""
    rng = random.Random(seed * 100 + family)
    mask = "255.255.255.254" if family == IPV4 else "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"
    rules = []
    for _ in range(14):
        name = rng.choice(("a", "b")) + f"{seed}{family}"
        command = rng.choice(("--set", "--rcheck", "--rcheck", "--update", "--update", "--remove"))
        rest = ""
        if command in ("--rcheck", "--update"):
            rest += rng.choice(("", "--seconds 1", "--seconds 1 --reap", "--seconds 2"))
            rest += rng.choice(("", " --hitcount 2", " --hitcount 3", " --hitcount 5"))
        rest += rng.choice(("", "", f" --mask {mask}", " --rdest"))
        lead = rng.choice(("", "", "-p udp --dport 53 ", "-p udp --dport 54 "))
        rules.append(lead + lists(name, ("! " if rng.random() < 0.25 else "") + command, rest))
    steps = [udp(0.35 if rng.random() < 0.3 else 0, rng.choice(("C0", "C1", "C2")), dst=rng.choice(("S0", "S1", "S2")), dport=rng.choice((53, 54, 55)))
             for _ in range(28)]
    compare(kernel, Case(family, raw(*rules), steps), ("raw", "PREROUTING"))


@pytest.mark.parametrize("family", FAMILIES)
def test_recent_rate_of_new_connections(kernel, family):
    """The usual pair of rules: the fourth packet within the time is refused, and asks anew each time with --update."""
    rules = raw(lists(f"ssh{family}", "--update", "--seconds 1 --hitcount 4 -j DROP"), lists(f"ssh{family}", "--set"))
    steps = [udp() for _ in range(6)] + [udp(0.6), udp(0.6), udp(1.2)]
    compare(kernel, Case(family, rules, steps), ("raw", "PREROUTING"))


def test_recent_ring(kernel):
    """An address keeps as many stamps as the largest --hitcount asks for, rounded up to a power of two, and 32 at least."""
    rules = [lists("ring", "--rcheck", f"--hitcount {n}") for n in (3, 32, 33, 64)] + [lists("ring", "--set")]
    compare(kernel, Case(IPV4, raw(*rules), [udp() for _ in range(70)]), ("raw", "PREROUTING"), (67, 38, 37, 6, 70))


def test_recent_holds_a_hundred_addresses(kernel):
    """The address unused longest goes for the 101st."""
    steps = [udp(src=f"C{n}") for n in range(101)] + [udp(src="C0", dport=9), udp(src="C1", dport=9), udp(src="C100", dport=9)]
    rules = raw("-p udp --dport 53 " + lists("many", "--set"), "-p udp --dport 9 " + lists("many", "--rcheck"))
    compare(kernel, Case(IPV4, rules, steps), ("raw", "PREROUTING"), (101, 2))


@pytest.mark.parametrize("family", FAMILIES)
def test_recent_hop_count(kernel, family):
    """--rttl: the hop count as it came in, before forwarding and after; 255 forwarded is 0, which fits any."""
    name = f"ttl{family}"
    rules = (raw("-p udp --dport 53 " + lists(name, "--set"), lists(name, "--rcheck", "--rttl"))
             + forward(lists(name, "--rcheck", "--rttl"), "-p udp --dport 54 " + lists(name, "--set")))
    steps = [udp(ttl=64), udp(ttl=64, dport=9), udp(ttl=63, dport=9), udp(ttl=65, dport=9), udp(ttl=64, dport=54), udp(ttl=64, dport=9),
             udp(ttl=255, dport=54), udp(ttl=7, dport=9), udp(ttl=255, dport=9)]
    case = Case(family, rules, steps)
    for chain in (("raw", "PREROUTING"), ("filter", "FORWARD")):
        compare(kernel, case, chain)


def test_recent_hop_count_of_own_packets(kernel):
    """What this host sends has not been forwarded: OUTPUT and POSTROUTING see the hop count it has."""
    rules = ("*mangle\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n"
             "-A OUTPUT -m recent --set --name own\n-A POSTROUTING -m recent --rcheck --rttl --name own\n-A POSTROUTING -m recent --update --name own\nCOMMIT\n"
             + forward() + raw())
    steps = [Step(0, "local", Packet(src="R2", dst="S0", sport=1, dport=2, length=4, ttl=ttl)) for ttl in (64, 3)]
    case = Case(IPV4, rules, steps)
    for chain in (("mangle", "OUTPUT"), ("mangle", "POSTROUTING")):
        compare(kernel, case, chain)


# ---- limit -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("family", FAMILIES)
def test_limit(kernel, family):
    """One bucket per rule: the burst, then a packet for each quarter of a second; by default five at once and three an hour."""
    steps = [udp() for _ in range(6)] + [udp(0.3), udp(), udp(0.6), udp(), udp(), udp(1.5), udp(), udp(), udp(), udp()]

    def met(jiffies: list[int]) -> tuple[int, ...]:
        return within_buckets(["all"] * len(steps), jiffies, rate=4, burst=3), 5, len(steps)

    compare(kernel, Case(family, raw("-m limit --limit 4/sec --limit-burst 3", "-m limit", "-m limit --limit 10000/sec --limit-burst 10000"), steps),
            ("raw", "PREROUTING"), met)


# ---- hashlimit -------------------------------------------------------------------------------------------------------

KEPT = "--hashlimit-htable-expire 60000"        # by default an entry of a fast rate may be cleaned up between two packets of a test


def rate(name: str, rest: str) -> str:
    return f"-m hashlimit --hashlimit-name {name} {rest}"


@pytest.mark.parametrize("family", FAMILIES)
def test_hashlimit_packets(kernel, family):
    """A bucket per source: the burst, then one packet for each 500 ms; `above` is the rest."""
    rules = raw(rate(f"up{family}", f"--hashlimit-upto 2/s --hashlimit-burst 3 --hashlimit-mode srcip {KEPT}"),
                rate(f"ab{family}", f"--hashlimit-above 2/s --hashlimit-burst 3 --hashlimit-mode srcip {KEPT}"))
    sources = ("C0", "C1", "C0", "C0", "C0", "C1", "C0")
    steps = [udp(src=src) for src in sources] + [udp(0.6), udp(), udp(1.2), udp(), udp(), udp(2), udp(), udp(), udp()]

    def met(jiffies: list[int]) -> tuple[int, ...]:
        passed = within_buckets([step.packet.src for step in steps], jiffies, rate=2, burst=3)
        return passed, len(steps) - passed

    compare(kernel, Case(family, rules, steps), ("raw", "PREROUTING"), met)


def within_buckets(sources: list[str], jiffies: list[int], rate: int, burst: int) -> int:
    """Packets that find a token, by arithmetic: a bucket per source gains `rate` tokens in HZ jiffies and holds `burst`."""
    buckets: dict[str, tuple[int, int]] = {}
    passed = 0
    for source, now in zip(sources, jiffies, strict=True):
        tokens, before = buckets.get(source, (burst * HZ, now))
        tokens = min(burst * HZ, tokens + rate * (now - before))
        if tokens >= HZ:
            tokens -= HZ
            passed += 1
        buckets[source] = tokens, now
    return passed


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode, masks", [("srcip", ""), ("dstip", ""), ("srcport", ""), ("dstport", ""), ("srcip,dstip,srcport,dstport", ""), ("srcip", "--hashlimit-srcmask {}"),
                                         ("dstip", "--hashlimit-dstmask {}"), ("srcip,dstip", "--hashlimit-srcmask 0 --hashlimit-dstmask {}"), ("", "")])
def test_hashlimit_modes(kernel, family, mode, masks):
    """What shares a bucket: addresses, networks, ports; ports of protocols that have none are 0, an ESP SPI counts, ports that are cut off drop the packet."""
    name = f"m{family}{mode}{len(masks)}".replace(",", "")
    width = masks.format(31 if family == IPV4 else 127)
    rules = raw(rate(name, f"--hashlimit-upto 1/min --hashlimit-burst 2 {width} " + (f"--hashlimit-mode {mode}" if mode else "")))
    rng = random.Random(name)
    steps = [udp(src=rng.choice(("C0", "C1", "C2")), dst=rng.choice(("S0", "S1", "S2")), sport=rng.choice((1, 2)), dport=rng.choice((1, 2)),
                 proto=rng.choice(("udp", "udp", "udp", "icmp", "tcp", "89")), cut=rng.choice((-1, -1, -1, -1, 2)), name="echo-request") for _ in range(40)]
    compare(kernel, Case(family, rules, steps), ("raw", "PREROUTING"))


@pytest.mark.parametrize("family", FAMILIES)
def test_hashlimit_bytes(kernel, family):
    """Bytes per second, in 16-byte chunks begun; a burst fills the bucket up so many times."""
    rules = raw(rate(f"by{family}", "--hashlimit-upto 1kb/s --hashlimit-mode srcip"), rate(f"bu{family}", "--hashlimit-above 512b/s --hashlimit-burst 1kb --hashlimit-mode dstip"))
    steps = [udp(length=length) for length in (500, 100, 700, 1, 20, 20, 400)] + [udp(0.6, length=500), udp(length=500), udp(2.1, length=900), udp(length=100), udp(length=1400)]
    compare(kernel, Case(family, rules, steps), ("raw", "PREROUTING"))


def test_hashlimit_rate_match(kernel):
    """Counts for an interval instead of spending credits: over it once, the next interval is over too."""
    rules = raw(rate("rm", f"--hashlimit-upto 3/s --hashlimit-burst 2 --hashlimit-rate-match {KEPT}"),
                rate("rb", f"--hashlimit-above 100b/s --hashlimit-rate-match --hashlimit-mode srcip {KEPT}"),
                rate("ri", f"--hashlimit-above 4/s --hashlimit-burst 1 --hashlimit-rate-match --hashlimit-rate-interval 2 --hashlimit-mode srcip {KEPT}"))
    steps = ([udp() for _ in range(8)] + [udp(1.1)] + [udp() for _ in range(2)] + [udp(1.2), udp(), udp(1.2)] + [udp() for _ in range(8)])
    compare(kernel, Case(IPV4, rules, steps), ("raw", "PREROUTING"))


def test_hashlimit_full_table_drops(kernel):
    """The entry over --hashlimit-htable-max: packet dropped, nothing counts; expired ones go at the next clean-up."""
    rules = raw(rate("full", "--hashlimit-upto 1/min --hashlimit-mode srcip --hashlimit-htable-size 2 --hashlimit-htable-max 3 "
                             "--hashlimit-htable-expire 1000 --hashlimit-htable-gcinterval 100"), "-p udp")
    steps = [udp(src=f"C{n}") for n in (0, 1, 2, 3, 0, 4)] + [udp(1 + MARGIN if n == 4 else 0, src=f"C{n}") for n in (4, 5, 6, 0)]
    compare(kernel, Case(IPV4, rules, steps), ("raw", "PREROUTING"), (7, 7))


def test_hashlimit_expired_entries_start_afresh(kernel):
    """Spent, unused for its time and a clean-up: full again; used in between it lives on."""
    rules = raw(rate("exp", "--hashlimit-upto 1/hour --hashlimit-burst 2 --hashlimit-mode srcip --hashlimit-htable-expire 1000 --hashlimit-htable-gcinterval 100"))
    steps = [udp(), udp(), udp(), *(udp(0.4) for _ in range(3)), udp(1 + MARGIN), udp()]
    compare(kernel, Case(IPV4, rules, steps), ("raw", "PREROUTING"), (4,))


def test_hashlimit_first_rule_makes_the_table(kernel):
    """Two rules of one name share entries, which live by the first rule's rate; `above` is each rule's own."""
    rules = raw(rate("one", "--hashlimit-upto 1/min --hashlimit-burst 2 --hashlimit-mode srcip"), rate("one", "--hashlimit-above 1000/s --hashlimit-burst 100 --hashlimit-mode dstip"))
    compare(kernel, Case(IPV4, rules, [udp(src=src) for src in ("C0", "C0", "C1", "C0")]), ("raw", "PREROUTING"), (2, 2))


# ---- connlimit -------------------------------------------------------------------------------------------------------

def syn(src: str = "C0", sport: int = 1000, delay: float = 0.02, **fields) -> Step:
    """A new TCP connection; a jiffy passes before it, so that the kernel looks at its list."""
    return Step(delay, "client", Packet("tcp", **{"src": src, "dst": "S0", "sport": sport, "dport": 80, "flags": "S", "seq": 1, **fields}))


def reset(src: str = "C0", sport: int = 1000, delay: float = 0.02) -> list[Step]:
    """The server answers with a RST: the connection is in CLOSE."""
    return [Step(delay, "server", Packet("tcp", src="S0", dst=src, sport=80, dport=sport, flags="R.", seq=0, ack=2))]


NEW = "-p tcp --syn -m connlimit "


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", ["--connlimit-above 2", "--connlimit-upto 2", "--connlimit-above 2 --connlimit-daddr", "--connlimit-above 3 --connlimit-mask {}",
                                     "--connlimit-upto 3 --connlimit-mask 0", "--connlimit-above 0"])
def test_connlimit_counts_living_connections(kernel, family, options):
    """By source, destination and network; those that were reset make room, those that were dropped never count."""
    rules = forward(NEW + options.format(31 if family == IPV4 else 127), "-p tcp --dport 81 -j DROP", NEW + options.format(24))
    steps = [*(syn(port_src, port) for port in (1, 2, 3) for port_src in ("C0", "C1", "C2")), *(syn("C0", 9, dport=81) for _ in range(3)),
             *reset("C0", 1), *reset("C0", 2), *reset("C1", 3), syn("C0", 4), syn("C0", 5), syn("C1", 4), syn("C1", 5), syn("C2", 4, dst="S1")]
    compare(kernel, Case(family, rules, steps), ("filter", "FORWARD"))


@pytest.mark.parametrize("family", FAMILIES)
def test_connlimit_dropped_connections_do_not_count(kernel, family):
    """What the rule itself drops never becomes a connection: the third is tried for ever, and let in when one has ended."""
    rules = forward(NEW + "--connlimit-above 2 -j DROP", "-p tcp")
    steps = [syn(sport=1), syn(sport=2), *(syn(sport=n) for n in (3, 4, 5, 3)), *reset(sport=1), syn(sport=3), syn(sport=4)]
    compare(kernel, Case(family, rules, steps), ("filter", "FORWARD"), (5, 4))


@pytest.mark.parametrize("family", FAMILIES)
def test_connlimit_other_packets_join_too(kernel, family):
    """Packets of connections that the rule did not see begin, replies under the server's address, UDP, connections that time out."""
    rules = forward("-m connlimit --connlimit-above 1", "-m connlimit --connlimit-upto 1", "-p udp -m connlimit --connlimit-above 2 --connlimit-daddr")
    steps = [syn(sport=1), Step(0.02, "server", Packet("tcp", src="S0", dst="C0", sport=80, dport=1, flags="S.", seq=5, ack=2)), udp(0.02, sport=1), udp(0.02, sport=2),
             udp(0.02, "C1"), Step(0.02, "server", Packet("udp", src="S0", dst="C0", sport=53, dport=1, length=3)), udp(0.02, sport=3), udp(2.6, sport=4)]
    compare(kernel, Case(family, rules, steps, settings={"nf_conntrack_udp_timeout": "1", "nf_conntrack_udp_timeout_stream": "1"}), ("filter", "FORWARD"))
