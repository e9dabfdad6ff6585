"""Random rulesets: user chains, jumps, goto, RETURN, negations, every table, over what the engine evaluates.

MATCHES and TARGETS are tables: feature -> (condition, text).  A row is used when its feature is on and the rule (table, hooks,
protocol) is one the kernel takes.  Values that rules test go into the Pool, from which packets are drawn.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from nfqfw.selftest.case import CHAINS
from nfqfw.selftest.packets import IPV4, address

PORTS = (22, 53, 80, 81, 443, 1024, 1111, 5000, 65535)
PORT_PROTOCOLS = ("tcp", "udp")
MULTIPORT_PROTOCOLS = ("tcp", "udp", "udplite", "sctp")
STATES = ("NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED")
HOOK_INTERFACES = {"PREROUTING": "i", "INPUT": "i", "FORWARD": "io", "OUTPUT": "o", "POSTROUTING": "o"}
TABLE_ODDS = {"filter": 0.95, "mangle": 0.5, "raw": 0.35, "security": 0.25, "nat": 0.25}
NAT_FEATURES = {"snat", "dnat", "masquerade", "redirect", "netmap"}
SNAT_HOOKS, DNAT_HOOKS = {"POSTROUTING", "INPUT"}, {"PREROUTING", "OUTPUT"}


@dataclass(slots=True)
class Pool:
    """Values that rules of the case test; packets take theirs from here, and one beside."""

    ports: list[int] = field(default_factory=lambda: list(PORTS))
    marks: list[int] = field(default_factory=lambda: [0, 1, 2, 0x10, 0xff])
    lengths: list[int] = field(default_factory=lambda: [0, 1, 10, 64])
    ttls: list[int] = field(default_factory=lambda: [64])
    tos: list[int] = field(default_factory=lambda: [0, 0x10, 0xb8])
    icmp: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Draft:
    """A rule being made: what the kernel's restrictions are about."""

    table: str
    hooks: frozenset[str]
    proto: str = ""
    negated_proto: bool = False
    family: int = IPV4


def port_range(rng: random.Random, pool: Pool) -> str:
    low = rng.choice(PORTS)
    if rng.random() < 0.6:
        return str(low)
    high = rng.choice([p for p in PORTS if p >= low])
    pool.ports += [max(low - 1, 1), min(high + 1, 65535)]
    return rng.choice((f"{low}:{high}", f"{low}:{high}", f":{high}", f"{low}:"))


def maybe_not(rng: random.Random, odds: float = 0.25) -> str:
    return "! " if rng.random() < odds else ""


def number_range(rng: random.Random, values: list[int], top: int) -> tuple[int, int]:
    low = rng.choice(values)
    return low, min(top, low + rng.choice((0, 0, 1, 20, 1000)))


# ---- matches: (rng, draft, pool) -> text after -m NAME --------------------------------------------------------------

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
    parts = [f"{maybe_not(rng)}--ctstate {','.join(rng.sample(STATES, rng.randint(1, 3)))}"] if rng.random() < 0.8 else []
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
    )
    if "conntrack-tuples" in _on(draft):
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
    """Slow enough that no token comes back while a case runs."""
    return "limit", [f"--limit {rng.choice(('1/hour', '2/hour'))} --limit-burst {rng.randint(1, 5)}"]


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


def m_u32(rng, draft, pool):
    return "u32", [f"{maybe_not(rng)}--u32 {rng.choice(('0>>28=4', '6&0xff=6,17', '0&0xffff=40:60', '0>>22&0x3c@0>>16=80'))}"]


def m_string(rng, draft, pool):
    return "string", [f"{maybe_not(rng)}--hex-string |{rng.choice(('0108', '0f16', 'ffff'))}| --algo {rng.choice(('bm', 'kmp'))}"
                      + rng.choice(("", " --from 28", " --to 60"))]


def m_ecn(rng, draft, pool):
    return "ecn", [f"{maybe_not(rng)}--ecn-ip-ect {rng.randrange(4)}"]


def m_tcpmss(rng, draft, pool):
    return "tcpmss", [f"{maybe_not(rng)}--mss {rng.choice(('1460', '536:1400', '1:65535'))}"]



def _on(draft: Draft) -> frozenset[str]:
    return draft_features.get(id(draft), frozenset())


def m_mac(rng, draft, pool):
    return "mac", [f"{maybe_not(rng)}--mac-source {rng.choice(('02:00:00:00:01:02', '02:00:00:00:02:02', '02:00:00:00:09:09'))}"]


def m_pkttype(rng, draft, pool):
    return "pkttype", [f"{maybe_not(rng)}--pkt-type {rng.choice(('unicast', 'unicast', 'broadcast', 'multicast'))}"]


def m_owner(rng, draft, pool):
    return "owner", [f"{maybe_not(rng)}{rng.choice(('--uid-owner 0', '--uid-owner 5', '--gid-owner 0', '--socket-exists', '--uid-owner 0-10'))}"]


def m_devgroup(rng, draft, pool):
    side = "--src-group" if draft.hooks <= {"PREROUTING", "INPUT", "FORWARD"} else "--dst-group"
    return "devgroup", [f"{maybe_not(rng)}{side} {rng.choice(('0x0', '0x1', '0x0/0xf'))}"]


def m_physdev(rng, draft, pool):
    return "physdev", [f"{maybe_not(rng)}{rng.choice(('--physdev-in eth0', '--physdev-is-in', '--physdev-is-bridged'))}"]


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


def m_frag6(rng, draft, pool):
    return "frag", [rng.choice(("--fragfirst", "--fragmore", "--fraglast", "--fragid 1:60000"))]


draft_features: dict[int, frozenset[str]] = {}

Condition = Callable[[Draft], bool]


def with_proto(*names: str) -> Condition:
    return lambda d: d.proto in names and not d.negated_proto


def always(draft: Draft) -> bool:
    return True


# feature -> (weight, when the kernel takes it, text)
MATCHES: dict[str, tuple[int, Condition, Callable]] = {
    "tcp": (8, with_proto("tcp"), m_tcp),
    "udp": (8, with_proto("udp"), m_udp),
    "icmp": (8, with_proto("icmp"), m_icmp),
    "icmp6": (8, with_proto("ipv6-icmp"), m_icmp6),
    "multiport": (4, with_proto(*MULTIPORT_PROTOCOLS), m_multiport),
    "conntrack": (5, always, m_conntrack),
    "state": (2, always, m_state),
    "mark": (2, always, m_mark),
    "connmark": (1, always, m_connmark),
    "limit": (1, always, m_limit),
    "length": (1, always, m_length),
    "ttl": (1, lambda d: d.family == IPV4, m_ttl),
    "hl": (1, lambda d: d.family != IPV4, m_hl),
    "tos": (1, always, m_tos),
    "dscp": (1, always, m_dscp),
    "iprange": (1, always, m_iprange),
    "statistic": (1, always, m_statistic),
    "quota": (1, always, m_quota),
    "connbytes": (1, always, m_connbytes),
    "addrtype": (1, always, m_addrtype),
    "u32": (1, lambda d: d.family == IPV4, m_u32),
    "string": (1, always, m_string),
    "ecn": (1, always, m_ecn),
    "tcpmss": (1, with_proto("tcp"), m_tcpmss),
    "mac": (1, lambda d: bool(d.hooks) and d.hooks <= {"PREROUTING", "INPUT", "FORWARD"}, m_mac),
    "pkttype": (1, always, m_pkttype),
    "owner": (1, lambda d: bool(d.hooks) and d.hooks <= {"OUTPUT", "POSTROUTING"}, m_owner),
    "devgroup": (1, lambda d: bool(d.hooks) and (d.hooks <= {"PREROUTING", "INPUT", "FORWARD"} or d.hooks <= {"OUTPUT", "POSTROUTING"}),
                 m_devgroup),
    "physdev": (1, lambda d: bool(d.hooks) and d.hooks <= {"PREROUTING", "INPUT", "FORWARD"}, m_physdev),
    "time": (1, always, m_time),
    "esp": (4, with_proto("esp"), m_spi("esp", "espspi")),
    "ah": (4, lambda d: d.family == IPV4 and with_proto("ah")(d), m_spi("ah", "ahspi")),
    "ipcomp": (4, with_proto("ipcomp"), m_spi("ipcomp", "ipcompspi")),
    "sctp": (4, with_proto("sctp"), m_sctp),
    "ipv6header": (1, lambda d: d.family != IPV4, m_headers6),
    "hbh": (1, lambda d: d.family != IPV4, m_options6("hbh")),
    "dst": (1, lambda d: d.family != IPV4, m_options6("dst")),
    "frag": (1, lambda d: d.family != IPV4, m_frag6),
}


# ---- targets --------------------------------------------------------------------------------------------------------

REJECTS4 = ("icmp-net-unreachable", "icmp-host-unreachable", "icmp-proto-unreachable", "icmp-port-unreachable",
            "icmp-net-prohibited", "icmp-host-prohibited", "icmp-admin-prohibited")
REJECTS6 = ("icmp6-no-route", "icmp6-adm-prohibited", "icmp6-addr-unreachable", "icmp6-port-unreachable")


def t_reject(rng, draft, pool):
    if draft.proto == "tcp" and not draft.negated_proto and rng.random() < 0.6:
        return "REJECT --reject-with tcp-reset"
    kind = rng.choice(("", *(REJECTS4 if draft.family == IPV4 else REJECTS6)))
    return f"REJECT --reject-with {kind}" if kind else "REJECT"


def t_log(rng, draft, pool):
    return rng.choice(("LOG", "LOG --log-prefix \"x: \"", "LOG --log-level 3 --log-uid"))


def t_mark(rng, draft, pool):
    option = rng.choice(("--set-mark", "--set-xmark", "--or-mark", "--and-mark", "--xor-mark"))
    mask = rng.choice(("", "/0xf")) if option.startswith("--set") else ""
    return f"MARK {option} {rng.choice(pool.marks):#x}{mask}"


def t_connmark(rng, draft, pool):
    return "CONNMARK " + rng.choice((f"--set-mark {rng.choice(pool.marks):#x}", "--save-mark", "--restore-mark",
                                     f"--set-xmark {rng.choice(pool.marks):#x}/0xf"))


def t_dscp(rng, draft, pool):
    return f"DSCP --set-dscp {rng.choice(pool.tos) >> 2:#x}"


def t_tos(rng, draft, pool):
    return f"TOS --set-tos {rng.choice(pool.tos):#x}/{rng.choice((0xff, 0xf0)):#x}"


def t_ttl(rng, draft, pool):
    return f"TTL --ttl-{rng.choice(('set 33', 'inc 2', 'dec 2'))}"


def t_hl(rng, draft, pool):
    return f"HL --hl-{rng.choice(('set 33', 'inc 2', 'dec 2'))}"


def t_tcpmss(rng, draft, pool):
    return f"TCPMSS --set-mss {rng.choice((500, 1400, 9000))}"


def t_tcpoptstrip(rng, draft, pool):
    return f"TCPOPTSTRIP --strip-options {rng.choice(('mss', 'wscale', 'sack-permitted', 'timestamp', '2,3,4'))}"


def t_zone(rng, draft, pool):
    return f"CT --{rng.choice(('zone', 'zone', 'zone-orig'))} {rng.choice((1, 7))}"


def _ported(draft: Draft) -> bool:
    return draft.proto in ("tcp", "udp") and not draft.negated_proto


def _nat_end(rng, draft, name: str, ports: tuple[str, ...]) -> str:
    host = address(name, draft.family)
    if not _ported(draft) or rng.random() < 0.5:
        return host
    return (f"{host}:" if draft.family == IPV4 else f"[{host}]:") + rng.choice(ports)


def t_snat(rng, draft, pool):
    return "SNAT --to-source " + _nat_end(rng, draft, rng.choice(("R1", "R2", "S7", "C7")), ("3000", "3001"))


def t_dnat(rng, draft, pool):
    return "DNAT --to-destination " + _nat_end(rng, draft, rng.choice(("S1", "S2", "R1", "R2", "C1")), ("80", "8080", "5000-5003"))


def t_masquerade(rng, draft, pool):
    return "MASQUERADE" + (" --to-ports 2000" if _ported(draft) and rng.random() < 0.3 else "")


def t_redirect(rng, draft, pool):
    return "REDIRECT" + (f" --to-ports {rng.choice(('8080', '9000-9003'))}" if _ported(draft) and rng.random() < 0.6 else "")


def t_netmap(rng, draft, pool):
    side = rng.choice(("C4", "S4"))
    return f"NETMAP --to {address(side, draft.family)}/{rng.choice((32, 30)) if draft.family == IPV4 else rng.choice((128, 126))}"


def in_table(name: str, hooks: set[str] | None = None) -> Condition:
    return lambda d: d.table == name and (hooks is None or bool(d.hooks) and d.hooks <= hooks)


# feature -> (weight, when, text, ends the walk of the table)
TARGETS: dict[str, tuple[int, Condition, Callable, bool]] = {
    "reject": (3, lambda d: d.table == "filter", t_reject, True),
    "log": (1, always, t_log, False),
    "mark": (3, always, t_mark, False),
    "trace": (1, lambda d: d.table == "raw", lambda *_: "TRACE", False),
    "notrack": (3, lambda d: d.table == "raw", lambda *_: "NOTRACK", False),
    "connmark_set": (2, always, t_connmark, False),
    "dscp_set": (1, lambda d: d.table == "mangle", t_dscp, False),
    "tos_set": (1, lambda d: d.table == "mangle", t_tos, False),
    "ttl_set": (1, lambda d: d.table == "mangle" and d.family == IPV4, t_ttl, False),
    "tcpoptstrip": (1, lambda d: d.table == "mangle" and with_proto("tcp")(d), t_tcpoptstrip, False),
    "ecn_remove": (1, lambda d: d.table == "mangle" and d.family == IPV4 and with_proto("tcp")(d), lambda *_: "ECN --ecn-tcp-remove", False),
    "classify": (1, in_table("mangle", {"OUTPUT", "FORWARD", "POSTROUTING"}), lambda *_: "CLASSIFY --set-class 1:2", False),
    "zone": (2, in_table("raw"), t_zone, False),
    "snat": (5, in_table("nat", SNAT_HOOKS), t_snat, True),
    "masquerade": (3, in_table("nat", {"POSTROUTING"}), t_masquerade, True),
    "dnat": (5, in_table("nat", DNAT_HOOKS), t_dnat, True),
    "redirect": (2, in_table("nat", DNAT_HOOKS), t_redirect, True),
    "netmap": (1, in_table("nat"), t_netmap, True),
    "hl_set": (1, lambda d: d.table == "mangle" and d.family != IPV4, t_hl, False),
}


def sample(feature: str, family: int) -> str:
    """A ruleset of one rule from this row of MATCHES or TARGETS; empty when the family has no such rule."""
    rng, pool = random.Random(feature), Pool()
    for table, chain in (("filter", "INPUT"), ("mangle", "FORWARD"), ("raw", "PREROUTING"), ("nat", "POSTROUTING"), ("nat", "PREROUTING"),
                         ("filter", "OUTPUT")):
        for proto in ("", "tcp", "udp", "sctp", "esp", "ah", "ipcomp", "icmp" if family == IPV4 else "ipv6-icmp"):
            draft = Draft(table, frozenset({chain}), proto, family=family)
            row = MATCHES.get(feature) or TARGETS[feature]
            if not row[1](draft):
                continue
            if feature in MATCHES:
                name, options = row[2](rng, draft, pool)
                rest = " ".join([f"-m {name}", *options])
            else:
                rest = f"-j {row[2](rng, draft, pool)}"
            return f"*{table}\n:{chain} ACCEPT [0:0]\n-A {chain} {f'-p {proto} ' if proto else ''}{rest}\nCOMMIT\n"
    return "*filter\n-A NOSUCH\nCOMMIT\n"


class RulesetMaker:
    """One random ruleset; `pool` afterwards holds the values its rules test."""

    def __init__(self, rng: random.Random, family: int, features: frozenset[str]) -> None:
        self.rng, self.family, self.features, self.pool = rng, family, features, Pool()

    def text(self) -> str:
        return "".join(self.table(t) for t, odds in TABLE_ODDS.items()
                       if self.rng.random() < odds and (t != "nat" or self.features & NAT_FEATURES))

    def table(self, table: str) -> str:
        rng = self.rng
        users = [f"u{i}" for i in range(rng.choice((0, 0, 1, 2, 3)))]
        chains: dict[str, list[str]] = {}
        reached = {name: set() for name in users}           # user chain -> hooks that may enter it
        for i, chain in enumerate([*CHAINS[table], *users]):
            hooks = frozenset({chain}) if chain not in users else frozenset(reached[chain])
            later = users if chain not in users else users[i - len(CHAINS[table]) + 1:]
            count = rng.choice((0, 1, 2, 3, 5)) if hooks else 0
            chains[chain] = [self.rule(table, chain, hooks, later, reached) for _ in range(count)]
        policy = {c: "DROP" if rng.random() < (0.15 if table == "filter" else 0.03) and table != "nat" else "ACCEPT"
                  for c in CHAINS[table]}
        heads = [f":{c} {policy.get(c, '-')} [0:0]" for c in chains]
        rules = [f"-A {c} {r}".rstrip() for c, body in chains.items() for r in body]
        return "\n".join([f"*{table}", *heads, *rules, "COMMIT"]) + "\n"

    # ---- one rule -----------------------------------------------------------------------------------------------

    def rule(self, table: str, chain: str, hooks: frozenset[str], later: list[str], reached: dict) -> str:
        rng = self.rng
        draft = Draft(table, hooks, family=self.family)
        parts = [*self.own_part(draft, hooks)]
        for _ in range(rng.choice((0, 1, 1, 2))):
            parts += self.one_match(draft)
        parts += self.target(draft, later, reached)
        return " ".join(parts)

    def own_part(self, draft: Draft, hooks: frozenset[str]) -> list[str]:
        rng, out = self.rng, []
        for option in ("-s", "-d"):
            if rng.random() < 0.2:
                out.append(f"{maybe_not(rng)}{option} {self.network()}")
        sides = set.intersection(*(set(HOOK_INTERFACES[h]) for h in hooks)) if hooks else set()
        for side in sorted(sides):
            if rng.random() < 0.15:
                out.append(f"{maybe_not(rng)}-{side} {rng.choice(('eth0', 'eth1', 'eth+', 'lo', 'et+'))}")
        if rng.random() < 0.6:
            draft.proto = rng.choice(self.protocols())
            draft.negated_proto = rng.random() < 0.1
            out.append(f"{'! ' if draft.negated_proto else ''}-p {draft.proto}")
        if self.family == IPV4 and rng.random() < 0.04:
            out.append(f"{maybe_not(rng)}-f")
        return out

    def protocols(self) -> tuple[str, ...]:
        return ("tcp", "tcp", "tcp", "udp", "udp", "icmp" if self.family == IPV4 else "ipv6-icmp",
                "udplite", "sctp", "89", "esp", "ipcomp", "ah" if self.family == IPV4 else "tcp")

    def network(self) -> str:
        rng = self.rng
        host = address(rng.choice(("C0", "C1", "C2", "S0", "S1", "S2", "R1", "R2")), self.family)
        if self.family == IPV4:
            return f"{host}/{rng.choice((32, 32, 31, 30, 24, 16, 9, 1))}"
        return f"{host}/{rng.choice((128, 128, 127, 126, 64, 48, 33))}"

    def one_match(self, draft: Draft) -> list[str]:
        choices = [(f, *row) for f, row in MATCHES.items() if f in self.features and row[1](draft)]
        if not choices:
            return []
        _, _, _, make = self.rng.choices(choices, [c[1] for c in choices])[0]
        draft_features[id(draft)] = self.features
        name, options = make(self.rng, draft, self.pool)
        del draft_features[id(draft)]
        return [f"-m {name}", *options]

    def target(self, draft: Draft, later: list[str], reached: dict) -> list[str]:
        rng = self.rng
        if later and rng.random() < 0.35:
            chain = rng.choice(later)
            reached[chain] |= draft.hooks
            return [f"{rng.choice(('-j', '-j', '-g'))} {chain}"]
        choices = [(3, "ACCEPT"), ({"filter": 1, "nat": 0}.get(draft.table, 0.3), "DROP"), (2, "RETURN"), (3, "")]
        choices += [(row[0], f) for f, row in TARGETS.items() if f in self.features and row[1](draft)]
        picked = rng.choices([c[1] for c in choices], [c[0] for c in choices])[0]
        if picked in TARGETS:
            return [f"-j {TARGETS[picked][2](rng, draft, self.pool)}"]
        return [f"-j {picked}"] if picked else []
