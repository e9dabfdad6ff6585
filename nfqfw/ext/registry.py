"""Extensions by name.  A module is imported when a rule first uses one of its names; nothing is scanned at start."""

from __future__ import annotations

from importlib import import_module

from nfqfw.ext import api

# name in rules -> module of nfqfw.ext
MATCH_MODULES: dict[str, str] = {
    "comment": "m_comment", "conntrack": "m_conntrack", "icmp": "m_icmp", "icmp6": "m_icmp6", "limit": "m_limit",
    "connmark": "m_connmark", "dscp": "m_tos", "ecn": "m_ecn", "hl": "m_ttl", "tos": "m_tos", "ttl": "m_ttl",
    "mark": "m_mark", "multiport": "m_multiport", "state": "m_state", "tcp": "m_tcp", "udp": "m_udp",
}
MATCH_ALIASES = {"icmpv6": "icmp6", "ipv6-icmp": "icmp6", "ipv6-mh": "mh", "mobility-header": "mh"}
TARGET_MODULES: dict[str, str] = {
    "CHECKSUM": "t_CHECKSUM", "CLASSIFY": "t_CLASSIFY", "CONNMARK": "t_CONNMARK", "CONNSECMARK": "t_SECMARK",
    "DNAT": "t_SNAT", "DNPT": "t_NPT", "DSCP": "t_TOS", "ECN": "t_ECN", "HL": "t_TTL", "MASQUERADE": "t_MASQUERADE",
    "NETMAP": "t_NETMAP", "REDIRECT": "t_MASQUERADE", "SECMARK": "t_SECMARK", "SNAT": "t_SNAT", "SNPT": "t_NPT",
    "TCPMSS": "t_TCPMSS", "TCPOPTSTRIP": "t_TCPOPTSTRIP", "TOS": "t_TOS", "TTL": "t_TTL",
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
