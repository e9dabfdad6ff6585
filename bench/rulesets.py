"""Rulesets and headers for the benchmarks, from a seed: the same arguments give the same text everywhere.

    python -m bench.rulesets acl 10000 [--seed 1] [--family 6] > acl.v4          acl fw ipc ports addresses stateful kube blocklist

Filter sets after the manner of ClassBench (Taylor and Turner, 2007), by our own tables and code:
    acl     a router's access list: narrow destinations, half of the sources narrow, one destination port
    fw      a firewall between networks: an address is often anything, port ranges on both sides, DROP as often as ACCEPT
    ipc     a gateway's chains: between the two, many pairs of hosts
Prefixes nest, as in real sets: most are drawn by keeping the first bits of an address that was used before.  Ports come in the
classes of the literature: WC anything, HI 1024-65535, LO 0-1023, AR a range, EM one port.  All rules differ.

No generated rule matches the quiet corner: UDP from client to server network of the lab (10.0.1.0/24 to 10.0.2.0/24) with port
9000 at the server's end, or its answers.  A packet from there walks the whole ruleset, whatever it is.

Headers (`headers`): hits lie inside a random rule each, misses in the quiet corner, cold ones anywhere.
"""

from __future__ import annotations

import argparse
import base64
import ipaddress
import random
import struct
from collections.abc import Callable
from typing import NamedTuple

from bench.wire import TCP, UDP, ipv4, ipv6, pseudo, summed

ICMP, ICMPV6 = 1, 58
PROTOCOLS = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMPV6: "ipv6-icmp", 50: "esp", 51: "ah"}
WITH_PORTS = (TCP, UDP)
ANY_PORT = (0, 65535)
SERVER_PORT = 9000              # harness.PORT
CORNER = {4: ("10.0.1.0/24", "10.0.2.0/24"), 6: ("fd00:1::/64", "fd00:2::/64")}     # client and server network of the lab
BITS = {4: 32, 6: 128}
POPULAR = (80, 443, 53, 22, 25, 123, 161, 389, 445, 993, 1433, 1521, 3306, 3389, 5060, 5432, 8080, 8443)
RANGES = ((6000, 6063), (135, 139), (20, 21), (5900, 5910), (1812, 1813), (27000, 27009))
SITES = 24                      # networks /16 (IPv6: /32) in which a set's addresses begin
TRIES = 200                     # drawings of a rule that differs from all before, then its port is drawn at random


class Prefix(NamedTuple):
    address: int                # host bits are 0
    length: int

    def holds(self, address: int, bits: int) -> bool:
        return (address ^ self.address) >> (bits - self.length) == 0

    def overlaps(self, other: Prefix, bits: int) -> bool:
        return (self.address ^ other.address) >> (bits - min(self.length, other.length)) == 0

    def text(self, family: int) -> str:
        return f"{(ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address)(self.address)}/{self.length}"


class Header(NamedTuple):
    """What a packet is classified by."""

    proto: int
    source: int
    destination: int
    sport: int                  # 0 where the protocol has none
    dport: int


class Rule(NamedTuple):
    source: Prefix
    destination: Prefix
    proto: int | None           # None = any
    sport: tuple[int, int]      # first and last; any unless proto has ports
    dport: tuple[int, int]
    target: str

    def matches(self, header: Header, family: int = 4) -> bool:
        return (self.proto in (None, header.proto) and self.source.holds(header.source, BITS[family])
                and self.destination.holds(header.destination, BITS[family])
                and (self.proto not in WITH_PORTS or self.sport[0] <= header.sport <= self.sport[1]
                     and self.dport[0] <= header.dport <= self.dport[1]))

    def text(self, family: int = 4) -> str:
        """As iptables-save prints it, without its `-A CHAIN`."""
        words = [f"{option} {prefix.text(family)}" for option, prefix in (("-s", self.source), ("-d", self.destination)) if prefix.length]
        if self.proto is not None:
            words.append(f"-p {PROTOCOLS[self.proto]}")
            ports = [f"{option} {ports_text(*ports)}" for option, ports in (("--sport", self.sport), ("--dport", self.dport))
                     if ports != ANY_PORT]
            if ports:
                words.append(f"-m {PROTOCOLS[self.proto]} {' '.join(ports)}")
        return " ".join([*words, f"-j {self.target}"])


class Ruleset(NamedTuple):
    """Rules of one chain of the filter table."""

    kind: str
    family: int
    rules: list[Rule]

    def text(self, chain: str = "FORWARD", first: tuple[str, ...] = ()) -> str:
        """iptables-save form.  first: rules before the others, without their -A CHAIN."""
        return filter_table((*first, *(rule.text(self.family) for rule in self.rules)), chain)


ESTABLISHED = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"


def filter_table(rules, chain: str = "FORWARD") -> str:
    builtin = [f":{name} ACCEPT [0:0]" for name in ("INPUT", "FORWARD", "OUTPUT")]
    own = [] if chain in ("INPUT", "FORWARD", "OUTPUT") else [f":{chain} - [0:0]"]
    jump = [f"-A FORWARD -j {chain}"] if own else []
    return "\n".join(["*filter", *builtin, *own, *jump, *(f"-A {chain} {rule}" for rule in rules), "COMMIT", ""])


def ports_text(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}:{high}"


# ---- acl, fw, ipc -----------------------------------------------------------------------------------------------------

class Profile(NamedTuple):
    """What tells one kind of set from another: weights, of any sum."""

    source: dict[int, float]    # prefix length of IPv4 (IPv6: see `length_in`)
    destination: dict[int, float]
    protocols: dict[int | None, float]
    ports: dict[tuple[str, str], float]                 # (class of source port, class of destination port)
    nested: float               # probability that a prefix keeps the first bits of one before
    accepts: float


PROFILES = {
    "acl": Profile(
        source={0: 22, 8: 2, 14: 2, 16: 9, 19: 3, 21: 4, 22: 4, 23: 5, 24: 21, 26: 3, 27: 3, 28: 4, 30: 2, 32: 16},
        destination={16: 2, 20: 2, 22: 3, 23: 3, 24: 16, 25: 2, 27: 5, 28: 6, 29: 5, 30: 4, 31: 2, 32: 50},
        protocols={TCP: 72, UDP: 13, ICMP: 3, None: 11, 50: 1},
        ports={("WC", "EM"): 62, ("WC", "WC"): 14, ("WC", "AR"): 12, ("WC", "HI"): 7, ("WC", "LO"): 2, ("EM", "WC"): 3},
        nested=0.85, accepts=0.7),
    "fw": Profile(
        source={0: 46, 8: 3, 16: 6, 20: 3, 22: 3, 24: 14, 27: 2, 28: 3, 32: 20},
        destination={0: 34, 12: 2, 16: 8, 20: 4, 22: 3, 24: 16, 28: 4, 32: 29},
        protocols={TCP: 54, UDP: 27, ICMP: 4, None: 11, 50: 2, 51: 2},
        ports={("WC", "EM"): 34, ("WC", "WC"): 14, ("HI", "EM"): 16, ("WC", "AR"): 9, ("EM", "HI"): 7, ("HI", "HI"): 6, ("EM", "WC"): 6,
               ("EM", "EM"): 4, ("WC", "LO"): 2, ("AR", "WC"): 2},
        nested=0.7, accepts=0.5),
    "ipc": Profile(
        source={0: 14, 8: 2, 16: 7, 18: 2, 20: 4, 22: 5, 24: 20, 26: 3, 28: 5, 30: 3, 32: 35},
        destination={0: 10, 14: 2, 16: 7, 20: 4, 22: 4, 24: 18, 27: 4, 28: 5, 32: 46},
        protocols={TCP: 55, UDP: 22, ICMP: 5, None: 16, 50: 2},
        ports={("WC", "EM"): 44, ("WC", "WC"): 26, ("WC", "AR"): 8, ("EM", "WC"): 8, ("HI", "EM"): 6, ("WC", "HI"): 4, ("EM", "EM"): 4},
        nested=0.8, accepts=0.6),
}


class Draw:
    """Draws parts of rules from a seed."""

    def __init__(self, profile: Profile, seed: object, family: int):
        self.rng = random.Random(f"{seed}/{family}")
        self.profile, self.family, self.bits = profile, family, BITS[family]
        self.sites = [self.site() for _ in range(SITES)]
        self.used: dict[str, list[int]] = {"source": [], "destination": []}

    def site(self) -> int:
        if self.family == 6:
            return (0x2001_0000 | self.rng.getrandbits(16)) << 96
        return self.rng.choice([*range(1, 10), *range(11, 127), *range(128, 224)]) << 24 | self.rng.getrandbits(8) << 16

    def weighted(self, weights: dict):
        return self.rng.choices(list(weights), list(weights.values()))[0]

    def prefix(self, side: str) -> Prefix:
        length = length_in(self.family, self.weighted(getattr(self.profile, side)))
        if length == 0:
            return Prefix(0, 0)
        pool = self.used[side]
        if pool and self.rng.random() < self.profile.nested:
            kept, base = self.rng.randint(self.bits // 4, length), self.rng.choice(pool)
        else:
            kept, base = self.bits // 2 if self.family == 4 else 32, self.rng.choice(self.sites)
        fresh = self.bits - kept
        address = base >> fresh << fresh | (self.rng.getrandbits(fresh) if fresh else 0)
        pool.append(address)
        return Prefix(address >> (self.bits - length) << (self.bits - length), length)

    def port(self, kind: str) -> tuple[int, int]:
        if kind == "EM":
            return 2 * ((self.rng.choice(POPULAR) if self.rng.random() < 0.5 else self.rng.randrange(1, 65536)),)
        if kind == "AR":
            if self.rng.random() < 0.2:
                return self.rng.choice(RANGES)
            low = self.rng.randrange(1, 60000)
            return low, min(65535, low + self.rng.choice((1, 3, 9, 15, 63, 99, 999)))
        return {"WC": ANY_PORT, "HI": (1024, 65535), "LO": (0, 1023)}[kind]

    def rule(self) -> Rule:
        proto = self.weighted(self.profile.protocols)
        if proto == ICMP and self.family == 6:
            proto = ICMPV6
        ports = self.weighted(self.profile.ports)
        sport, dport = map(self.port, ports) if proto in WITH_PORTS else (ANY_PORT, ANY_PORT)
        target = "ACCEPT" if self.rng.random() < self.profile.accepts else "DROP"
        return quiet(Rule(self.prefix("source"), self.prefix("destination"), proto, sport, dport, target), self.family)


def length_in(family: int, length: int) -> int:
    """An IPv4 prefix length as it would be of IPv6: /8 is a provider's /32, /16 a site's /48, /24 a /64, /32 a host."""
    if family == 4 or length == 0:
        return length
    return 16 + 2 * length if length <= 24 else 64 + 8 * (length - 24)


def quiet(rule: Rule, family: int) -> Rule:
    """The rule, or its TCP form if it matches in the quiet corner."""
    if rule.proto not in (None, UDP):
        return rule
    client, server = corner(family)
    for source, destination, port in ((client, server, rule.dport), (server, client, rule.sport)):
        if (rule.source.overlaps(source, BITS[family]) and rule.destination.overlaps(destination, BITS[family])
                and (rule.proto is None or port[0] <= SERVER_PORT <= port[1])):
            return rule._replace(proto=TCP)
    return rule


def corner(family: int) -> tuple[Prefix, Prefix]:
    networks = map(ipaddress.ip_network, CORNER[family])
    client, server = (Prefix(int(network.network_address), network.prefixlen) for network in networks)
    return client, server


def classbench(kind: str, rules: int, seed: int = 1, family: int = 4) -> Ruleset:
    """A set of the kind "acl", "fw" or "ipc".  A shorter set is the beginning of a longer one of the same seed."""
    draw, seen, out = Draw(PROFILES[kind], f"{kind}/{seed}", family), set(), []
    while len(out) < rules:
        for _ in range(TRIES):
            rule = draw.rule()
            if rule[:5] not in seen:
                break
        else:
            rule = quiet(rule._replace(proto=TCP, dport=2 * (draw.rng.randrange(1, 65536),)), family)
            if rule[:5] in seen:
                continue
        seen.add(rule[:5])
        out.append(rule)
    return Ruleset(kind, family, out)


# ---- other rulesets of one chain --------------------------------------------------------------------------------------

ANYWHERE = Prefix(0, 0)


def ports(rules: int, seed: int = 1, family: int = 4) -> Ruleset:
    """`-p udp --dport N`, no address.  More than 60,000 rules repeat ports; none is the quiet corner's."""
    numbers = [port for port in range(1, 65536) if port != SERVER_PORT]
    random.Random(seed).shuffle(numbers)
    return Ruleset("ports", family, [Rule(ANYWHERE, ANYWHERE, UDP, ANY_PORT, 2 * (numbers[i % len(numbers)],), "DROP") for i in range(rules)])


def addresses(rules: int, seed: int = 1, family: int = 4) -> Ruleset:
    """`-s HOST -j DROP`."""
    rng, seen = random.Random(seed), {}
    while len(seen) < rules:
        seen[rng.randrange(11 << 24, 127 << 24) if family == 4 else 0x20010DB8 << 96 | rng.getrandbits(96)] = None
    return Ruleset("addresses", family, [Rule(Prefix(address, BITS[family]), ANYWHERE, None, ANY_PORT, ANY_PORT, "DROP") for address in seen])


BLOCKED = {16: 0.5, 17: 0.4, 18: 0.6, 19: 0.9, 20: 1.8, 21: 1.8, 22: 3.5, 23: 2.5, 24: 22, 26: 0.5, 27: 1, 28: 1.5, 29: 3, 32: 60}


def blocklist(prefixes: int = 100_000, seed: int = 1) -> Ruleset:
    """`-s PREFIX -j DROP`: networks and hosts as in public abuse lists, many of them neighbours; IPv4."""
    draw, seen = Draw(PROFILES["fw"]._replace(source=BLOCKED, nested=0.6), f"blocklist/{seed}", 4), {}
    while len(seen) < prefixes:
        seen[draw.prefix("source")] = None
    return Ruleset("blocklist", 4, [Rule(prefix, ANYWHERE, None, ANY_PORT, ANY_PORT, "DROP") for prefix in seen])


def ipset_text(blocked: Ruleset, name: str = "blocked") -> str:
    """For `ipset restore`."""
    most = max(65536, 2 * len(blocked.rules))
    return "\n".join([f"create {name} hash:net family inet hashsize 65536 maxelem {most}",
                      *(f"add {name} {rule.source.text(4)}" for rule in blocked.rules), ""])


def nft_text(blocked: Ruleset, hook: str = "forward") -> str:
    """For `nft -f`: one interval set and the chain that asks it."""
    elements = ", ".join(rule.source.text(4) for rule in blocked.rules)
    return (f"table ip bench {{\n set blocked {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {elements} }} }}\n"
            f" chain c {{ type filter hook {hook} priority 0; ip saddr @blocked drop; }}\n}}\n")


def stateful(rules: int = 50, seed: int = 1) -> str:
    """iptables-save text of a usual firewall: known connections first, INVALID dropped, a list, and what is let in; policy DROP.

    UDP of the quiet corner is let in by the last rule.
    """
    listed = classbench("acl", max(0, rules - 3), seed)
    body = (ESTABLISHED, "-m conntrack --ctstate INVALID -j DROP", *(rule.text() for rule in listed.rules), "-i eth0 -o eth1 -p udp -j ACCEPT")
    return filter_table(body).replace(":FORWARD ACCEPT", ":FORWARD DROP")


# ---- services ---------------------------------------------------------------------------------------------------------

class Service(NamedTuple):
    proto: int
    address: int
    port: int


class Kube(NamedTuple):
    """A node's ruleset as kube-proxy writes it in iptables mode: one rule, and a handful of small chains, for each service."""

    services: list[Service]
    text: str
    rules: int
    chains: int


PODS, SERVICES = 10 << 24 | 244 << 16, 10 << 24 | 96 << 16          # 10.244.0.0/14 and 10.96.0.0/12


def kube(services: int = 10_000, endpoints: int = 3, seed: int = 1) -> Kube:
    """Services of `endpoints` pods each, one of eight of them UDP; nat and filter table."""
    rng = random.Random(f"kube/{seed}")
    chains, rules, made = ["KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"], [], []
    entries = []
    for number in range(services):
        service = Service(UDP if number % 8 == 7 else TCP, SERVICES + 10 + number, rng.choice((80, 443, 53, 8080, 9090, 5432)))
        made.append(service)
        proto, address = PROTOCOLS[service.proto], ipaddress.IPv4Address(service.address)
        name = f'-m comment --comment "ns{number % 50}/svc{number}:main cluster IP"'
        to = f"-d {address}/32 -p {proto} {name} -m {proto} --dport {service.port}"
        chain = f"KUBE-SVC-{tag(rng)}"
        chains.append(chain)
        entries.append(f"-A KUBE-SERVICES {to} -j {chain}")
        rules.append(f"-A {chain} ! -s 10.244.0.0/14 {to} -j KUBE-MARK-MASQ")
        for left in range(endpoints, 0, -1):
            pod, end = ipaddress.IPv4Address(PODS + 2 + number * endpoints + left), f"KUBE-SEP-{tag(rng)}"
            chains.append(end)
            chance = f"-m statistic --mode random --probability {probability(left)} " if left > 1 else ""
            rules.append(f"-A {chain} {chance}-j {end}")
            rules.append(f"-A {end} -s {pod}/32 -j KUBE-MARK-MASQ")
            rules.append(f"-A {end} -p {proto} -m {proto} -j DNAT --to-destination {pod}:{8000 + number % 1000}")
    builtin = [f":{name} ACCEPT [0:0]" for name in ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")]
    nat = ["*nat", *builtin, *(f":{chain} - [0:0]" for chain in chains), *KUBE_NAT, *entries, *rules, "COMMIT"]
    return Kube(made, "\n".join([*nat, *KUBE_FILTER, ""]), len(KUBE_NAT) + len(entries) + len(rules) + 4, len(chains) + 1)


KUBE_NAT = (
    '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
    "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
    "-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0",
    "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
    "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
)
KUBE_FILTER = (
    "*filter", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", ":KUBE-FORWARD - [0:0]",
    '-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
    "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
    "-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT",
    "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "COMMIT",
)


def tag(rng: random.Random) -> str:
    """16 characters, as kube-proxy makes of a hash."""
    return base64.b32encode(rng.getrandbits(80).to_bytes(10)).decode()


def probability(choices: int) -> str:
    """1 / choices as xt_statistic keeps it (31 bits) and iptables prints it."""
    return f"{round((1 << 31) / choices) / (1 << 31):.11f}"


# ---- headers ----------------------------------------------------------------------------------------------------------

def headers(ruleset: Ruleset, count: int, kind: str, seed: int = 1) -> list[Header]:
    """Headers of one kind: "hits", "misses" or "cold"."""
    rng = random.Random(f"headers/{kind}/{seed}")
    make = {"hits": lambda: inside(rng.choice(ruleset.rules), rng, ruleset.family), "misses": lambda: missing(rng, ruleset.family),
            "cold": lambda: anywhere(rng, ruleset.family)}[kind]
    return [make() for _ in range(count)]


def service_headers(made: Kube, count: int, seed: int = 1) -> list[Header]:
    """New connections of the lab's client network to random services."""
    rng, (client, _) = random.Random(f"services/{seed}"), corner(4)
    out = []
    for _ in range(count):
        service = rng.choice(made.services)
        out.append(Header(service.proto, client.address + rng.randrange(1, 255), service.address, rng.randrange(1024, 65536), service.port))
    return out


def within(prefix: Prefix, rng: random.Random, family: int) -> int:
    free = BITS[family] - prefix.length
    return prefix.address | (rng.getrandbits(free) if free else 0)


def inside(rule: Rule, rng: random.Random, family: int) -> Header:
    """A header that the rule matches; an earlier rule may too."""
    proto = rng.choice(WITH_PORTS) if rule.proto is None else rule.proto
    sport, dport = (rng.randint(*rule.sport), rng.randint(*rule.dport)) if proto in WITH_PORTS else (0, 0)
    return Header(proto, within(rule.source, rng, family), within(rule.destination, rng, family), sport, dport)


def missing(rng: random.Random, family: int) -> Header:
    client, server = corner(family)
    return Header(UDP, client.address + rng.randrange(2, 255), server.address + rng.randrange(2, 255), rng.randrange(1024, 65536), SERVER_PORT)


def anywhere(rng: random.Random, family: int) -> Header:
    source, destination = (rng.getrandbits(BITS[family]) for _ in range(2))
    return Header(rng.choice((TCP, TCP, UDP)), source, destination, rng.randrange(1, 65536), rng.randrange(1, 65536))


def packet(header: Header, family: int = 4, payload: bytes = b"18 bytes of data..") -> bytes:
    """The header as an IP packet with sound checksums: a SYN of TCP, a UDP datagram, an echo request; else the payload alone."""
    size = BITS[family] // 8
    ends = header.source.to_bytes(size), header.destination.to_bytes(size), header.proto
    match header.proto:
        case 6:
            body, at = struct.pack("!HHIIBBHHH", header.sport, header.dport, 1, 0, 0x50, 2, 65535, 0, 0), 16
        case 17:
            body, at = struct.pack("!HHHH", header.sport, header.dport, 8 + len(payload), 0) + payload, 6
        case 1 | 58:
            body, at = struct.pack("!BBHHH", 8 if header.proto == 1 else 128, 0, 0, 1, 1) + payload, 2
        case _:
            body, at = payload, None
    if at is not None:
        body = summed(body, at, b"" if header.proto == ICMP else pseudo(*ends, len(body)))
    return (ipv4 if family == 4 else ipv6)(*ends, body)


# ---- the command ------------------------------------------------------------------------------------------------------

def text_of(kind: str, rules: int, seed: int, family: int) -> str:
    kinds: dict[str, Callable[[], str]] = {
        **{name: lambda name=name: classbench(name, rules, seed, family).text() for name in PROFILES},
        "ports": lambda: ports(rules, seed, family).text(), "addresses": lambda: addresses(rules, seed, family).text(),
        "stateful": lambda: stateful(rules, seed), "kube": lambda: kube(rules, seed=seed).text,
        "blocklist": lambda: blocklist(rules, seed).text(),
    }
    return kinds[kind]()


def main() -> None:
    parser = argparse.ArgumentParser(description="Print a generated ruleset in iptables-save form.")
    parser.add_argument("kind", choices=[*PROFILES, "ports", "addresses", "stateful", "kube", "blocklist"])
    parser.add_argument("rules", type=int, help="rules; of kube: services; of blocklist: prefixes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--family", type=int, choices=(4, 6), default=4)
    options = parser.parse_args()
    print(text_of(options.kind, options.rules, options.seed, options.family), end="")


if __name__ == "__main__":
    main()
