"""Matches of random rules: one row each, `feature -> (weight, when the kernel takes it, text)`.

A row is used when its feature is on and the rule (table, hooks, protocol) is one the kernel takes.  Values that rules test go
into the Pool, from which packets are drawn.  What depends on time has a margin: rates so slow that no token comes back while
a case runs, or that ask for pauses in it (generate_packets.PAUSE), ages and dates far from the limit.
"""

from __future__ import annotations

from collections.abc import Callable

from nfqfw.selftest.draft import (PORTS, Condition, Pool, always, both, maybe_not, number_range, of_family, on_hooks, port_range,
                                  with_proto)
from nfqfw.selftest.packets import IPV4, IPV6, address

MULTIPORT_PROTOCOLS = ("tcp", "udp", "udplite", "sctp")
ARRIVING, LEAVING = ("PREROUTING", "INPUT", "FORWARD"), ("OUTPUT", "POSTROUTING")      # hooks where a packet has an input, an output device
STATES = ("NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED")


# ---- matches: (rng, draft, pool) -> (name, its options as text) --------------------------------------------------------

def one_of(name: str, *options: str) -> Callable:
    """A match with one of these options, now and then negated."""
    return lambda rng, draft, pool: (name, [maybe_not(rng) + rng.choice(options)])


def m_tcp(rng, draft, pool):
    flags = ("SYN", "ACK", "FIN", "RST", "PSH", "URG")

    def masks():
        mask = rng.sample(flags, rng.randint(1, 4))
        compare = [f for f in mask if rng.random() < 0.5]
        return f"{','.join(mask)} {','.join(compare) or 'NONE'}"

    parts = (
        (0.5, lambda: f"{maybe_not(rng)}--dport {port_range(rng, pool)}"),
        (0.3, lambda: f"{maybe_not(rng)}--sport {port_range(rng, pool)}"),
        (0.2, lambda: f"{maybe_not(rng)}--tcp-flags {masks()}"),
        (0.1, lambda: f"{maybe_not(rng)}--tcp-option {rng.choice((2, 3, 4, 5, 8))}"),
    )
    return "tcp", [text() for odds, text in parts if rng.random() < odds]


def m_udp(rng, draft, pool):
    parts = ((0.7, "--dport"), (0.4, "--sport"))
    return "udp", [f"{maybe_not(rng)}{name} {port_range(rng, pool)}" for odds, name in parts if rng.random() < odds]


def m_icmp(rng, draft, pool):
    kind = rng.choice(("8", "0", "3", "3/1", "3/3", "11/0", "8/0", "any", "13"))
    return "icmp", [f"{maybe_not(rng)}--icmp-type {kind}"]


def m_icmp6(rng, draft, pool):
    kind = rng.choice(("128", "129", "1", "1/3", "1/4", "3/0", "2", "128/0"))
    return "icmp6", [f"{maybe_not(rng)}--icmpv6-type {kind}"]


def m_multiport(rng, draft, pool):
    option = rng.choice(("--sports", "--dports", "--ports"))
    values = [port_range(rng, pool) for _ in range(rng.randint(1, 4))]
    values = [v if _whole_range(v) else str(rng.choice(PORTS)) for v in values]
    return "multiport", [f"{maybe_not(rng)}{option} {','.join(values)}"]


def _whole_range(text: str) -> bool:
    """multiport takes a port or first:last with first < last."""
    low, colon, high = text.partition(":")
    return not colon or bool(low and high) and low != high


def m_conntrack(rng, draft, pool):
    parts = [f"{maybe_not(rng)}--ctstate {','.join(rng.sample((*STATES, 'SNAT', 'DNAT'), rng.randint(1, 3)))}"] if rng.random() < 0.8 else []
    family = draft.family
    hosts = [address(n, family) for n in ("C0", "C1", "S0", "S1", "R1")]
    extra = (
        (0.12, lambda: f"{maybe_not(rng)}--ctproto {rng.choice((6, 17, 1 if family == IPV4 else 58))}"),
        (0.12, lambda: f"{maybe_not(rng)}--ctorigsrc {rng.choice(hosts)}"),
        (0.08, lambda: f"{maybe_not(rng)}--ctorigdst {rng.choice(hosts)}"),
        (0.08, lambda: f"{maybe_not(rng)}--ctreplsrc {rng.choice(hosts)}"),
        (0.08, lambda: f"{maybe_not(rng)}--ctorigdstport {port_range(rng, pool).strip(':')}"),
        (0.08, lambda: f"{maybe_not(rng)}--ctstatus {','.join(rng.sample(('SEEN_REPLY', 'ASSURED', 'CONFIRMED', 'EXPECTED'), 2))}"),
        (0.12, lambda: f"--ctdir {rng.choice(('ORIGINAL', 'REPLY'))}"),
        (0.08, lambda: f"{maybe_not(rng)}--ctreplsrcport {port_range(rng, pool).strip(':')}"),
        (0.05, lambda: f"{maybe_not(rng)}--ctexpire {rng.choice(('1:29', '100:119', '100:400000'))}"),
    )
    parts += [text() for odds, text in extra if rng.random() < odds]
    return "conntrack", parts or [f"--ctstate {rng.choice(STATES)}"]


def m_state(rng, draft, pool):
    return "state", [f"{maybe_not(rng)}--state {','.join(rng.sample(STATES, rng.randint(1, 3)))}"]


def m_mark(rng, draft, pool):
    mask = rng.choice(("", "", "/0xf", "/0xff"))
    return "mark", [f"{maybe_not(rng)}--mark {rng.choice(pool.marks):#x}{mask}"]


def m_connmark(rng, draft, pool):
    return "connmark", [f"{maybe_not(rng)}--mark {rng.choice(pool.marks):#x}{rng.choice(('', '/0xf'))}"]


def m_limit(rng, draft, pool):
    """Slow enough that no token comes back while a case runs, or with pauses in it: a part of one does, or one does."""
    pool.waits |= (waits := rng.random() < 0.05)
    rate = rng.choice(("50/minute", "10/second") if waits else ("1/hour", "2/hour"))
    return "limit", [f"--limit {rate} --limit-burst {rng.randint(1, 2 if waits else 5)}"]


def m_length(rng, draft, pool):
    low, high = number_range(rng, [0, 28, 40, 41, 60, 64, 100, 1000], 65535)
    return "length", [f"{maybe_not(rng)}--length {low}:{high}"]


def m_ttl(rng, draft, pool):
    value = rng.choice((1, 2, 63, 64, 128))
    pool.ttls += [v for v in (value - 1, value, value + 1) if v > 4]
    return "ttl", [f"{maybe_not(rng)}--ttl-eq {value}" if rng.random() < 0.5 else f"--ttl-{rng.choice(('lt', 'gt'))} {value}"]


def m_hl(rng, draft, pool):
    value = rng.choice((2, 63, 64, 128))
    pool.ttls += [v for v in (value - 1, value, value + 1) if v > 4]
    return "hl", [f"{maybe_not(rng)}--hl-eq {value}" if rng.random() < 0.5 else f"--hl-{rng.choice(('lt', 'gt'))} {value}"]


def m_tos(rng, draft, pool):
    return "tos", [f"{maybe_not(rng)}--tos {rng.choice(pool.tos):#x}/{rng.choice((0xff, 0x3f, 0xf0)):#x}"]


def m_dscp(rng, draft, pool):
    return "dscp", [f"{maybe_not(rng)}--dscp {rng.choice(pool.tos) >> 2:#x}"]


def m_iprange(rng, draft, pool):
    option, side = rng.choice((("--src-range", "C"), ("--dst-range", "S"), ("--src-range", "S"), ("--dst-range", "C")))
    low, high = sorted(rng.sample(range(4), 2))
    return "iprange", [f"{maybe_not(rng)}{option} {address(f'{side}{low}', draft.family)}-{address(f'{side}{high}', draft.family)}"]


def m_statistic(rng, draft, pool):
    every = rng.randint(1, 4)
    return "statistic", [f"--mode nth {maybe_not(rng)}--every {every} --packet {rng.randrange(every)}"]


def m_quota(rng, draft, pool):
    return "quota", [f"{maybe_not(rng)}--quota {rng.choice((0, 39, 40, 100, 1000))}"]


def m_connbytes(rng, draft, pool):
    low = rng.choice((0, 1, 2, 3, 100))
    return "connbytes", [f"{maybe_not(rng)}--connbytes {low}:{low + rng.choice((0, 1, 500))} "
                         f"--connbytes-mode {rng.choice(('packets', 'bytes', 'avgpkt'))} "
                         f"--connbytes-dir {rng.choice(('original', 'reply', 'both'))}"]


def m_addrtype(rng, draft, pool):
    return "addrtype", [f"{maybe_not(rng)}--{rng.choice(('src', 'dst'))}-type {rng.choice(('LOCAL', 'UNICAST', 'MULTICAST'))}"]


def m_string(rng, draft, pool):
    return "string", [f"{maybe_not(rng)}--hex-string |{rng.choice(('0108', '0f16', 'ffff'))}| --algo {rng.choice(('bm', 'kmp'))}"
                      + rng.choice(("", " --from 28", " --to 60"))]


def m_devgroup(rng, draft, pool):
    side = "--src-group" if draft.hooks <= {*ARRIVING} else "--dst-group"
    return "devgroup", [f"{maybe_not(rng)}{side} {rng.choice(('0x0', '0x1', '0x0/0xf'))}"]


def m_time(rng, draft, pool):
    """Ranges that begin or end years away: a recording is compared with a clock of its own."""
    return "time", [rng.choice(("--datestart 2020-01-01T00:00:00 --datestop 2037-01-01T00:00:00", "--datestop 2020-01-01T00:00:00",
                                "--timestart 00:00:00 --timestop 23:59:59", "--weekdays Mon,Tue,Wed,Thu,Fri,Sat,Sun",
                                "! --weekdays Mon,Tue,Wed,Thu,Fri,Sat,Sun"))]


def m_spi(name: str, option: str) -> Callable:
    """esp, ah, ipcomp: the payload that the packets carry begins 01 08 0f 16."""
    values = ("17305366", "0:17305366", "17305367:4294967295", "5") if name != "ipcomp" else ("2070", "3862", "0:65535", "5")
    return lambda rng, draft, pool: (name, [f"{maybe_not(rng)}--{option} {rng.choice(values)}"])


def m_sctp(rng, draft, pool):
    parts = ((0.5, lambda: f"{maybe_not(rng)}--dport {port_range(rng, pool)}"), (0.3, lambda: f"{maybe_not(rng)}--sport {port_range(rng, pool)}"),
             (0.5, lambda: f"{maybe_not(rng)}--chunk-types {rng.choice(('any', 'all', 'only'))} {rng.choice(('INIT', 'INIT_ACK', 'DATA,INIT'))}"))
    return "sctp", [text() for odds, text in parts if rng.random() < odds]


def m_headers6(rng, draft, pool):
    return "ipv6header", [f"{maybe_not(rng)}--header {rng.choice(('dst', 'hop', 'frag', 'hop,dst', 'prot'))}{rng.choice((' --soft', ''))}"]


def m_options6(name: str) -> Callable:
    """hbh, dst: the generator's headers hold one PadN of 4 and are 8 bytes long."""
    return lambda rng, draft, pool: (name, [f"{maybe_not(rng)}--{name}-len {rng.choice((8, 16))}" if rng.random() < 0.6
                                            else f"--{name}-opts {rng.choice(('1:4', '1', '5:2'))}"])


def m_ah6(rng, draft, pool):
    """The generator's authentication header has the SPI 7, and is 24 bytes long."""
    pool.extensions += ["a", "ha", "ad"]
    return "ah", [f"{maybe_not(rng)}--ahspi {rng.choice(('7', '0:7', '8:4294967295', '5'))}{rng.choice(('', '', ' --ahlen 24', ' ! --ahlen 24'))}"]


def m_rt(rng, draft, pool):
    """The generator's routing header is 8 bytes long and of type 0, with no segment left."""
    pool.extensions += ["r", "rd"]
    parts = ((0.5, lambda: f"{maybe_not(rng)}--rt-type {rng.choice((0, 2))}"), (0.5, lambda: f"{maybe_not(rng)}--rt-segsleft {rng.choice(('0', '0:3', '1'))}"),
             (0.3, lambda: f"{maybe_not(rng)}--rt-len {rng.choice((8, 24))}"))
    return "rt", [text() for odds, text in parts if rng.random() < odds]


def m_eui64(rng, draft, pool):
    pool.clients += ["C9", "C9"]        # whose IPv6 address is made of its link-layer address
    return "eui64", []


def m_dccp(rng, draft, pool):
    """The generator's packets have ports 264 and 3862, or those of the pool, and every type."""
    parts = ((0.4, lambda: f"{maybe_not(rng)}--dport {port_range(rng, pool)}"), (0.3, lambda: f"{maybe_not(rng)}--sport {port_range(rng, pool)}"),
             (0.4, lambda: f"{maybe_not(rng)}--dccp-types {rng.choice(('REQUEST', 'REQUEST,RESPONSE', 'DATA,ACK,RESET', 'INVALID'))}"),
             (0.2, lambda: f"{maybe_not(rng)}--dccp-option {rng.choice((1, 32, 44))}"))
    return "dccp", [text() for odds, text in parts if rng.random() < odds]


def m_recent(rng, draft, pool):
    """One list or two a case; ages of an hour."""
    name = f"--name q{pool.serial}{rng.choice('ab')}"
    side = rng.choice(("", " --rsource", " --rdest"))
    if rng.random() < 0.4:
        return "recent", [f"{maybe_not(rng)}--set {name}{side}"]
    what = rng.choice(("--rcheck", "--update", "--remove"))
    more = "" if what == "--remove" else rng.choice(("", " --hitcount 2", " --hitcount 3", " --seconds 3600", " --seconds 3600 --reap", " --rttl",
                                                     " --seconds 3600 --hitcount 2"))
    return "recent", [f"{maybe_not(rng)}{what} {name}{side}{more}"]


def m_hashlimit(rng, draft, pool):
    """Each rule has a table of its own."""
    kind, number = rng.choice((("upto 1/hour", 0), ("above 1/hour", 1), ("upto 2/hour", 2), ("upto 16b/s", 3))), rng.choice(range(1, 6))
    mode = rng.choice(("", "srcip", "dstip", "srcip,dstport", "srcip,dstip,srcport,dstport", "dstport"))
    burst = f"{100 * number}b" if kind[1] == 3 else str(number)
    mask = f" --hashlimit-srcmask {rng.choice((24, 31))}" if "srcip" in mode and rng.random() < 0.3 else ""
    pool.named += 1
    return "hashlimit", [f"--hashlimit-{kind[0]} --hashlimit-burst {burst}{f' --hashlimit-mode {mode}' if mode else ''}{mask} "
                         f"--hashlimit-name q{pool.serial}h{pool.named}"]


def m_connlimit(rng, draft, pool):
    """Bounds that no case comes near: the kernel's count may hold connections that have ended, ours does not (README)."""
    bits = 32 if draft.family == IPV4 else 128
    return "connlimit", [f"--connlimit-{rng.choice(('above', 'upto'))} {rng.choice((0, 100))}"
                         f"{rng.choice(('', f' --connlimit-mask {bits - 2}', ' --connlimit-mask 0'))}{rng.choice(('', ' --connlimit-daddr'))}"]


def m_connlabel(rng, draft, pool):
    return "connlabel", [f"{maybe_not(rng)}--label {rng.choice((1, 2, 40))}{rng.choice(('', ' --set', ' --set'))}"]


# load a byte or a word, compare, return; the last loads beyond most packets, which ends the program with 0
BPF4 = ("4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0", "4,48 0 0 8,37 0 1 63,6 0 0 65535,6 0 0 0", "5,177 0 0 0,72 0 0 2,21 0 1 80,6 0 0 1,6 0 0 0",
        "3,40 0 0 2,84 0 0 1,22 0 0 0", "4,48 0 0 70,21 0 1 43,6 0 0 0,6 0 0 1", "6,32 0 0 16,2 0 0 3,96 0 0 3,69 0 1 1,6 0 0 1,6 0 0 0")
BPF6 = ("4,48 0 0 6,21 0 1 6,6 0 0 1,6 0 0 0", "4,48 0 0 7,37 0 1 63,6 0 0 65535,6 0 0 0", "3,40 0 0 4,84 0 0 1,22 0 0 0",
        "4,48 0 0 90,21 0 1 43,6 0 0 0,6 0 0 1")


def m_bpf(rng, draft, pool):
    return "bpf", [f'--bytecode "{rng.choice(BPF4 if draft.family == IPV4 else BPF6)}"']


def m_cluster(rng, draft, pool):
    nodes = rng.choice((2, 3))
    return "cluster", [f"--cluster-total-nodes {nodes} {maybe_not(rng)}--cluster-local-node {rng.randint(1, nodes)} --cluster-hash-seed 0x7"]


# feature -> (weight, when the kernel takes it, text)
MATCHES: dict[str, tuple[int, Condition, Callable]] = {
    "tcp": (16, with_proto("tcp"), m_tcp),
    "udp": (16, with_proto("udp"), m_udp),
    "icmp": (20, with_proto("icmp"), m_icmp),
    "icmp6": (30, with_proto("ipv6-icmp"), m_icmp6),
    "multiport": (6, with_proto(*MULTIPORT_PROTOCOLS), m_multiport),
    "conntrack": (5, always, m_conntrack),
    "state": (2, always, m_state),
    "mark": (2, always, m_mark),
    "connmark": (1, always, m_connmark),
    "limit": (1, always, m_limit),
    "length": (1, always, m_length),
    "ttl": (1, of_family(IPV4), m_ttl),
    "hl": (1, of_family(IPV6), m_hl),
    "tos": (1, always, m_tos),
    "dscp": (1, always, m_dscp),
    "iprange": (1, always, m_iprange),
    "statistic": (1, always, m_statistic),
    "quota": (1, always, m_quota),
    "connbytes": (1, always, m_connbytes),
    "addrtype": (1, always, m_addrtype),
    "u32": (1, of_family(IPV4), one_of("u32", *(f"--u32 {test}" for test in ("0>>28=4", "6&0xff=6,17", "0&0xffff=40:60", "0>>22&0x3c@0>>16=80")))),
    "string": (1, always, m_string),
    "ecn": (1, always, one_of("ecn", *(f"--ecn-ip-ect {bits}" for bits in range(4)))),
    "tcpmss": (2, with_proto("tcp"), one_of("tcpmss", "--mss 1460", "--mss 536:1400", "--mss 1:65535")),
    "mac": (1, on_hooks(*ARRIVING), one_of("mac", *(f"--mac-source 02:00:00:00:{end}" for end in ("01:02", "02:02", "09:09")))),
    "pkttype": (1, always, one_of("pkttype", *(f"--pkt-type {kind}" for kind in ("unicast", "unicast", "broadcast", "multicast")))),
    "owner": (1, on_hooks(*LEAVING), one_of("owner", "--uid-owner 0", "--uid-owner 5", "--gid-owner 0", "--socket-exists", "--uid-owner 0-10")),
    "devgroup": (1, lambda d: on_hooks(*ARRIVING)(d) or on_hooks(*LEAVING)(d), m_devgroup),
    "physdev": (1, on_hooks(*ARRIVING), one_of("physdev", "--physdev-in eth0", "--physdev-is-in", "--physdev-is-bridged")),
    "time": (1, always, m_time),
    "esp": (40, with_proto("esp"), m_spi("esp", "espspi")),
    "ah": (60, both(of_family(IPV4), with_proto("ah")), m_spi("ah", "ahspi")),
    "ipcomp": (40, with_proto("ipcomp"), m_spi("ipcomp", "ipcompspi")),
    "sctp": (40, with_proto("sctp"), m_sctp),
    "ipv6header": (1, of_family(IPV6), m_headers6),
    "hbh": (1, of_family(IPV6), m_options6("hbh")),
    "dst": (1, of_family(IPV6), m_options6("dst")),
    "frag": (5, of_family(IPV6), lambda rng, *_: ("frag", [rng.choice(("--fragfirst", "--fragmore", "--fraglast", "--fragid 1:60000"))])),
    "ah6": (1, of_family(IPV6), m_ah6),
    "rt": (1, of_family(IPV6), m_rt),
    "mh": (60, both(of_family(IPV6), with_proto("mh")), one_of("mh", *(f"--mh-type {kind}" for kind in ("0", "1:5", "5", "binding-update")))),
    "eui64": (1, both(of_family(IPV6), on_hooks(*ARRIVING)), m_eui64),
    "dccp": (40, with_proto("dccp"), m_dccp),
    "recent": (1, always, m_recent),
    "hashlimit": (1, always, m_hashlimit),
    "connlimit": (1, lambda d: d.table != "raw", m_connlimit),
    "connlabel": (1, always, m_connlabel),
    "bpf": (1, always, m_bpf),
    "cluster": (1, always, m_cluster),
    "helper": (1, always, one_of("helper", "--helper ftp", "--helper sip", "--helper tftp")),
}
