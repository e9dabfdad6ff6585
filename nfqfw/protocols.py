"""Protocol knowledge that rules and reports share: names and numbers only.

Sources: IANA registries; the set of names that iptables knows without /etc/protocols (spec/iptables.md 3.3); RFC 9293
(TCP flags), RFC 792 and RFC 4443 with their successors (ICMP types).
"""

from __future__ import annotations

from functools import lru_cache

TCP, UDP, UDPLITE, SCTP, DCCP = 6, 17, 136, 132, 33
ICMP, ICMPV6 = 1, 58
ESP, AH, IPCOMP, MH, GRE = 50, 51, 108, 135, 47

# what iptables prints without asking /etc/protocols; the first name of a number is the one it prints
BUILTIN_NAMES = (
    ("tcp", TCP), ("sctp", SCTP), ("udp", UDP), ("udplite", UDPLITE), ("icmp", ICMP), ("ipv6-icmp", ICMPV6), ("icmpv6", ICMPV6),
    ("esp", ESP), ("ah", AH), ("mobility-header", MH), ("ipv6-mh", MH), ("mh", MH), ("dccp", DCCP), ("ipcomp", IPCOMP), ("all", 0),
)
NUMBER_OF = dict(BUILTIN_NAMES)
NAME_OF = {number: name for name, number in reversed(BUILTIN_NAMES)}

# IPv6 extension headers: `-p` of one of these never matches (spec 4.3)
EXTENSION_HEADERS = frozenset({0, 43, 44, 51, 59, 60})
EXTENSION_HEADERS_WARNED = frozenset({43, 44, 51, 60})

TCP_FLAGS = (("FIN", 1), ("SYN", 2), ("RST", 4), ("PSH", 8), ("ACK", 16), ("URG", 32))

# name, type, lowest code, highest code; names indented in help belong to the type above
ICMP_NAMES = (
    ("any", 255, 0, 255),
    ("echo-reply", 0, 0, 255),
    ("pong", 0, 0, 255),
    ("destination-unreachable", 3, 0, 255),
    ("network-unreachable", 3, 0, 0),
    ("host-unreachable", 3, 1, 1),
    ("protocol-unreachable", 3, 2, 2),
    ("port-unreachable", 3, 3, 3),
    ("fragmentation-needed", 3, 4, 4),
    ("source-route-failed", 3, 5, 5),
    ("network-unknown", 3, 6, 6),
    ("host-unknown", 3, 7, 7),
    ("network-prohibited", 3, 9, 9),
    ("host-prohibited", 3, 10, 10),
    ("TOS-network-unreachable", 3, 11, 11),
    ("TOS-host-unreachable", 3, 12, 12),
    ("communication-prohibited", 3, 13, 13),
    ("host-precedence-violation", 3, 14, 14),
    ("precedence-cutoff", 3, 15, 15),
    ("source-quench", 4, 0, 255),
    ("redirect", 5, 0, 255),
    ("network-redirect", 5, 0, 0),
    ("host-redirect", 5, 1, 1),
    ("TOS-network-redirect", 5, 2, 2),
    ("TOS-host-redirect", 5, 3, 3),
    ("echo-request", 8, 0, 255),
    ("ping", 8, 0, 255),
    ("router-advertisement", 9, 0, 255),
    ("router-solicitation", 10, 0, 255),
    ("time-exceeded", 11, 0, 255),
    ("ttl-exceeded", 11, 0, 255),
    ("ttl-zero-during-transit", 11, 0, 0),
    ("ttl-zero-during-reassembly", 11, 1, 1),
    ("parameter-problem", 12, 0, 255),
    ("ip-header-bad", 12, 0, 0),
    ("required-option-missing", 12, 1, 1),
    ("timestamp-request", 13, 0, 255),
    ("timestamp-reply", 14, 0, 255),
    ("address-mask-request", 17, 0, 255),
    ("address-mask-reply", 18, 0, 255),
)

ICMPV6_NAMES = (
    ("destination-unreachable", 1, 0, 255),
    ("no-route", 1, 0, 0),
    ("communication-prohibited", 1, 1, 1),
    ("beyond-scope", 1, 2, 2),
    ("address-unreachable", 1, 3, 3),
    ("port-unreachable", 1, 4, 4),
    ("failed-policy", 1, 5, 5),
    ("reject-route", 1, 6, 6),
    ("packet-too-big", 2, 0, 255),
    ("time-exceeded", 3, 0, 255),
    ("ttl-exceeded", 3, 0, 255),
    ("ttl-zero-during-transit", 3, 0, 0),
    ("ttl-zero-during-reassembly", 3, 1, 1),
    ("parameter-problem", 4, 0, 255),
    ("bad-header", 4, 0, 0),
    ("unknown-header-type", 4, 1, 1),
    ("unknown-option", 4, 2, 2),
    ("echo-request", 128, 0, 255),
    ("ping", 128, 0, 255),
    ("echo-reply", 129, 0, 255),
    ("pong", 129, 0, 255),
    ("router-solicitation", 133, 0, 255),
    ("router-advertisement", 134, 0, 255),
    ("neighbour-solicitation", 135, 0, 255),
    ("neighbor-solicitation", 135, 0, 255),
    ("neighbour-advertisement", 136, 0, 255),
    ("neighbor-advertisement", 136, 0, 255),
    ("redirect", 137, 0, 255),
)

# syslog levels, RFC 5424 table 2, as iptables reads and as it prints them
SYSLOG_NUMBER = {"alert": 1, "crit": 2, "debug": 7, "emerg": 0, "error": 3, "info": 6, "notice": 5, "panic": 0, "warning": 4}
SYSLOG_PRINTED = {0: "emerg", 1: "alert", 2: "crit", 3: "error", 4: "warn", 5: "notice", 6: "info", 7: "debug"}


@lru_cache(maxsize=1)
def protocols_file() -> tuple[dict[str, int], dict[int, str]]:
    """/etc/protocols: number of each name and alias, first name of each number.  Empty where there is no such file."""
    numbers: dict[str, int] = {}
    names: dict[int, str] = {}
    try:
        lines = open("/etc/protocols", encoding="utf-8", errors="replace").read().splitlines()
    except OSError:
        return numbers, names
    for line in lines:
        words = line.split("#", 1)[0].split()
        if len(words) < 2 or not words[1].isdigit():
            continue
        number = int(words[1])
        names.setdefault(number, words[0])
        for word in (words[0], *words[2:]):
            numbers.setdefault(word, number)
    return numbers, names


def protocol_number(name: str) -> int | None:
    """Number of a protocol given by name (lower case), or None."""
    number = NUMBER_OF.get(name)
    return number if number is not None else protocols_file()[0].get(name)


def protocol_name(number: int, numeric: bool) -> str | None:
    """Name to print for a protocol: iptables' own few, with `numeric` off also those of /etc/protocols."""
    if numeric:
        return NAME_OF.get(number)
    name = NAME_OF.get(number) if number == 0 else protocols_file()[1].get(number)
    return name or NAME_OF.get(number)
