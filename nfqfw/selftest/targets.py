"""Targets of random rules: one row each, `feature -> (weight, when the kernel takes it, text, whether it ends the walk)`."""

from __future__ import annotations

from collections.abc import Callable

from nfqfw.selftest.draft import Condition, Draft, always, both, of_family, with_proto
from nfqfw.selftest.packets import IPV4, IPV6, address

SNAT_HOOKS, DNAT_HOOKS = {"POSTROUTING", "INPUT"}, {"PREROUTING", "OUTPUT"}


REJECTS4 = ("icmp-net-unreachable", "icmp-host-unreachable", "icmp-proto-unreachable", "icmp-port-unreachable",
            "icmp-net-prohibited", "icmp-host-prohibited", "icmp-admin-prohibited")
REJECTS6 = ("icmp6-no-route", "icmp6-adm-prohibited", "icmp6-addr-unreachable", "icmp6-port-unreachable")


def one_of(*texts: str) -> Callable:
    """A target in one of these forms; of one nothing is drawn."""
    return lambda rng, draft, pool: rng.choice(texts) if len(texts) > 1 else texts[0]


def t_reject(rng, draft, pool):
    if draft.proto == "tcp" and not draft.negated_proto and rng.random() < 0.6:
        return "REJECT --reject-with tcp-reset"
    kind = rng.choice(("", *(REJECTS4 if draft.family == IPV4 else REJECTS6)))
    return f"REJECT --reject-with {kind}" if kind else "REJECT"


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


def t_tcpmss(rng, draft, pool):
    """Only for rules that test SYN, so the row writes that test."""
    return f"-m tcp --tcp-flags {rng.choice(('SYN SYN', 'SYN,RST SYN', 'FIN,SYN SYN'))} -j TCPMSS {rng.choice(('--set-mss 500', '--set-mss 9000', '--set-mss 1400'))}"


def t_prefix(name: str, side: str):
    """SNPT and DNPT among the lab's networks, of addresses that have the prefix: others would come out with a wrong checksum."""
    nets = ("2001:db8:a:", "2001:db8:b:", "2001:db8:ffff:")

    def text(rng, draft, pool):
        before, after = rng.choice(nets), rng.choice(nets)
        return f"-m iprange --{side}-range {before}:-{before}:ffff:ffff:ffff:ffff -j {name} --src-pfx {before}:/64 --dst-pfx {after}:/64"

    return text


def t_zone(rng, draft, pool):
    return f"CT --{rng.choice(('zone', 'zone', 'zone-orig'))} {rng.choice((1, 7))}"


# Tracker -> the states of a time-out policy and their seconds: all in outcome.TIMEOUTS, none the tracker's own for that state.
POLICIES = {
    "tcp": "syn_sent 20 syn_recv 40 established 900 fin_wait 50 close_wait 70 last_ack 80 time_wait 90 close 20 syn_sent2 40 retrans 150 unacknowledged 140",
    "udp": "unreplied 40 replied 50", "udplite": "unreplied 70 replied 80", "icmp": "timeout 40", "ipv6-icmp": "timeout 40",
    "gre": "unreplied 50 replied 90",
    "sctp": "closed 20 cookie_wait 40 cookie_echoed 50 established 900 shutdown_sent 70 shutdown_recd 80 shutdown_ack_sent 90",
    "generic": "timeout 70",
}
TRACKED = ("tcp", "udp", "udplite", "icmp", "ipv6-icmp", "gre", "sctp")     # the others have the generic tracker
POLICY_WORDS = {"ipv6-icmp": "icmpv6"}                                      # what nfct calls it


def t_timeout(rng, draft, pool):
    """A policy with all states or with one, alone or with something else for the connection."""
    tracker = draft.proto if draft.proto in TRACKED else "generic"
    states = POLICIES[tracker].split()
    name = f"q-{tracker}"
    if rng.random() < 0.25:
        at = 2 * rng.randrange(len(states) // 2)
        states, name = states[at:at + 2], f"q-{tracker}-{states[at]}"
    pool.policies.append(" ".join(("add timeout", name, "inet" if draft.family == IPV4 else "inet6", POLICY_WORDS.get(tracker, tracker), *states)))
    return f"CT --timeout {name}{rng.choice(('', '', '', ' --zone 7', ' --ctevents new'))}"


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
    "reject": (3, in_table("filter"), t_reject, True),
    "log": (1, always, one_of("LOG", "LOG --log-prefix \"x: \"", "LOG --log-level 3 --log-uid"), False),
    "mark": (3, always, t_mark, False),
    "tcpmss_set": (4, both(in_table("mangle"), with_proto("tcp")), t_tcpmss, False),
    "checksum": (0.5, in_table("mangle"), one_of("CHECKSUM --checksum-fill"), False),
    "connsecmark": (0.5, lambda d: d.table in ("mangle", "security"), one_of("CONNSECMARK --save", "CONNSECMARK --restore"), False),
    "snpt": (2, both(of_family(IPV6), in_table("mangle", {"POSTROUTING", "INPUT"})), t_prefix("SNPT", "src"), False),
    "dnpt": (2, both(of_family(IPV6), in_table("mangle", {"PREROUTING", "OUTPUT"})), t_prefix("DNPT", "dst"), False),
    "ct": (1, in_table("raw"), one_of("CT --notrack", "CT --ctevents new,destroy"), False),
    "ct_helper": (1, both(in_table("raw"), with_proto("tcp")), one_of("CT --helper ftp"), False),
    "ct_timeout": (3, both(in_table("raw"), lambda d: bool(d.proto) and not d.negated_proto), t_timeout, False),
    "trace": (1, in_table("raw"), one_of("TRACE"), False),
    "notrack": (3, in_table("raw"), one_of("NOTRACK"), False),
    "connmark_set": (2, always, t_connmark, False),
    "dscp_set": (1, in_table("mangle"), t_dscp, False),
    "tos_set": (1, in_table("mangle"), t_tos, False),
    "ttl_set": (1, both(of_family(IPV4), in_table("mangle")), one_of("TTL --ttl-set 33", "TTL --ttl-inc 2", "TTL --ttl-dec 2"), False),
    "tcpoptstrip": (4, both(in_table("mangle"), with_proto("tcp")), one_of(*(f"TCPOPTSTRIP --strip-options {names}" for names in ("mss", "wscale", "sack-permitted", "timestamp", "2,3,4"))), False),
    "ecn_remove": (2, both(in_table("mangle"), of_family(IPV4), with_proto("tcp")), one_of("ECN --ecn-tcp-remove"), False),
    "classify": (1, in_table("mangle", {"OUTPUT", "FORWARD", "POSTROUTING"}), one_of("CLASSIFY --set-class 1:2"), False),
    "zone": (2, in_table("raw"), t_zone, False),
    "snat": (5, in_table("nat", SNAT_HOOKS), t_snat, True),
    "masquerade": (3, in_table("nat", {"POSTROUTING"}), t_masquerade, True),
    "dnat": (5, in_table("nat", DNAT_HOOKS), t_dnat, True),
    "redirect": (2, in_table("nat", DNAT_HOOKS), t_redirect, True),
    "netmap": (1, in_table("nat"), t_netmap, True),
    "hl_set": (1, both(of_family(IPV6), in_table("mangle")), one_of("HL --hl-set 33", "HL --hl-inc 2", "HL --hl-dec 2"), False),
}
