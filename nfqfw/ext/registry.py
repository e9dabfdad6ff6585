"""Extensions by name.  A module is imported when a rule first uses one of its names; nothing is scanned at start."""

from __future__ import annotations

from importlib import import_module

from nfqfw.ext import api

# name in rules -> module of nfqfw.ext
MATCH_MODULES: dict[str, str] = {name: "m_" + name for name in (
    "addrtype", "ah", "bpf", "cgroup", "cluster", "comment", "connbytes", "connlabel", "connlimit", "connmark", "conntrack", "cpu", "dccp",
    "devgroup", "dst", "ecn", "esp", "eui64", "frag", "hashlimit", "helper", "icmp", "icmp6", "ipcomp", "iprange", "ipv6header", "ipvs",
    "length", "limit", "mac", "mark", "mh", "multiport", "nfacct", "osf", "owner", "physdev", "pkttype", "policy", "quota", "rateest",
    "realm", "recent", "rpfilter", "rt", "sctp", "set", "socket", "srh", "state", "statistic", "string", "tcp", "tcpmss", "time", "tos",
    "ttl", "u32", "udp",
)} | {"dscp": "m_tos", "hbh": "m_dst", "hl": "m_ttl"}
MATCH_ALIASES = {"icmpv6": "icmp6", "ipv6-icmp": "icmp6", "ipv6-mh": "mh", "mobility-header": "mh"}
TARGET_MODULES: dict[str, str] = {
    "CHECKSUM": "t_CHECKSUM", "CLASSIFY": "t_CLASSIFY", "CONNMARK": "t_CONNMARK", "CONNSECMARK": "t_SECMARK",
    "DNAT": "t_SNAT", "DNPT": "t_NPT", "DSCP": "t_TOS", "ECN": "t_ECN", "HL": "t_TTL", "MASQUERADE": "t_MASQUERADE",
    "NETMAP": "t_NETMAP", "REDIRECT": "t_MASQUERADE", "SECMARK": "t_SECMARK", "SNAT": "t_SNAT", "SNPT": "t_NPT",
    "TCPMSS": "t_TCPMSS", "TCPOPTSTRIP": "t_TCPOPTSTRIP", "TOS": "t_TOS", "TTL": "t_TTL",
    "AUDIT": "t_AUDIT", "CLUSTERIP": "t_CLUSTERIP", "HMARK": "t_HMARK", "IDLETIMER": "t_IDLETIMER", "LED": "t_LED", "NFLOG": "t_NFLOG",
    "NFQUEUE": "t_NFQUEUE", "RATEEST": "t_RATEEST", "SET": "t_SET", "SYNPROXY": "t_SYNPROXY", "TEE": "t_TEE", "TPROXY": "t_TPROXY",
    "ULOG": "t_ULOG",
    "CT": "t_CT", "LOG": "t_LOG", "MARK": "t_MARK", "NOTRACK": "t_CT", "REJECT": "t_REJECT", "TRACE": "t_TRACE",
}
STANDARD_TARGETS = frozenset({"ACCEPT", "DROP", "RETURN", "QUEUE"})


def find_match(name: str, family: int) -> api.Extension | None:
    """The match of that name, or None."""
    return find(api.MATCHES, MATCH_MODULES, MATCH_ALIASES.get(name, name), family)


def find_target(name: str, family: int) -> api.Extension | None:
    """The target of that name, or None.  Standard verdicts and chains are not among them."""
    return find(api.TARGETS, TARGET_MODULES, name, family)


def find(registry, modules, name: str, family: int) -> api.Extension | None:
    found = registry.get(name)
    if found is None:
        module = modules.get(name)
        if module is None:
            return None
        import_module("nfqfw.ext." + module)
        found = registry.get(name)
        if found is None:
            return None
    return found.get(family)
