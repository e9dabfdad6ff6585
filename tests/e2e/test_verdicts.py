"""What programs see through each kind of firewall: one ruleset, one table of questions, asked of the kernel's iptables and of
`nfqfw run` with both transports.  Each expected word is the kernel's: the "kernel" column fails if the table is wrong."""

import os
import time

import pytest

from netns import Lab
from tests.e2e.firewalls import KINDS, make
from tests.e2e.probes import ANSWERED, CONNECTED, SILENCE, ask_all, listening, ping, tcp, udp

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

COMMON = """
*mangle
:PREROUTING ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 1300 -j MARK --set-xmark 0x5/0xffffffff
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:services - [0:0]
:deep - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp -m tcp --dport 2222 -j ACCEPT
-A INPUT -p tcp -m tcp --dport 2223 -j REJECT --reject-with tcp-reset
-A OUTPUT -p tcp -m tcp --dport 3333 -j REJECT --reject-with tcp-reset
-A OUTPUT -p tcp -m tcp --dport 3334 -j DROP
-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A FORWARD -m conntrack --ctstate RELATED -j ACCEPT
-A FORWARD -i eth1 -j DROP
-A FORWARD -p tcp -m tcp --dport 1001 -j ACCEPT
-A FORWARD -p tcp -m tcp --dport 1002 -j DROP
-A FORWARD -p tcp -m tcp --dport 1003 -j REJECT
-A FORWARD -p tcp -m tcp --dport 1004 -j REJECT --reject-with tcp-reset
{rejects}
-A FORWARD -p udp -m udp --dport 1009 -j REJECT
-A FORWARD -p tcp -m tcp --dport 1100:1109 -j services
-A FORWARD -p tcp -m multiport --dports 1101,1102,1104 -j ACCEPT
-A FORWARD -p udp -m udp --dport 9 -j ACCEPT
-A FORWARD -p {icmp} -j ACCEPT
-A FORWARD -m mark --mark 0x5 -j ACCEPT
-A services -p tcp -m tcp --dport 1100 -j ACCEPT
-A services -p tcp -m tcp --dport 1101 -j RETURN
-A services -p tcp -m tcp --dport 1102 -g deep
-A services -p tcp -m tcp --dport 1103 -g deep
-A services -p tcp -m tcp --dport 1101:1103 -j REJECT
-A deep -p tcp -m tcp --dport 1103 -j DROP
COMMIT
"""
REJECTS4 = """\
-A FORWARD -p udp -m udp --dport 1005 -j REJECT --reject-with icmp-admin-prohibited
-A FORWARD -p udp -m udp --dport 1006 -j REJECT --reject-with icmp-host-unreachable
-A FORWARD -p udp -m udp --dport 1007 -j REJECT --reject-with icmp-net-unreachable
-A FORWARD -p udp -m udp --dport 1008 -j REJECT --reject-with icmp-proto-unreachable"""
REJECTS6 = """\
-A FORWARD -p udp -m udp --dport 1005 -j REJECT --reject-with icmp6-adm-prohibited
-A FORWARD -p udp -m udp --dport 1006 -j REJECT --reject-with icmp6-addr-unreachable
-A FORWARD -p udp -m udp --dport 1007 -j REJECT --reject-with icmp6-no-route
-A FORWARD -p udp -m udp --dport 1008 -j REJECT --reject-with icmp6-policy-fail"""
NEIGHBOURS6 = "-A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j ACCEPT\n-A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 136 -j ACCEPT\n"
RULES4 = COMMON.format(rejects=REJECTS4, icmp="icmp")
RULES6 = COMMON.format(rejects=REJECTS6, icmp="ipv6-icmp")

# name: probe, who asks, whom, port, the word (IPv4, IPv6)
QUESTIONS = {
    "accepted": (tcp, "client", "server", 1001, CONNECTED),
    "dropped": (tcp, "client", "server", 1002, SILENCE),
    # the kernel's error for IPv6 comes while connect() still holds the socket's lock, and is lost until the SYN is sent again
    "rejected, default": (tcp, "client", "server", 1003, ("ECONNREFUSED", None)),
    "rejected, tcp-reset": (tcp, "client", "server", 1004, "ECONNREFUSED"),
    "rejected, prohibited": (udp, "client", "server", 1005, ("EHOSTUNREACH", "EACCES")),
    "rejected, host or address": (udp, "client", "server", 1006, "EHOSTUNREACH"),
    "rejected, net or route": (udp, "client", "server", 1007, "ENETUNREACH"),
    "rejected, protocol or policy": (udp, "client", "server", 1008, ("ENOPROTOOPT", "EACCES")),
    "rejected, UDP": (udp, "client", "server", 1009, "ECONNREFUSED"),
    "accepted in a user chain": (tcp, "client", "server", 1100, CONNECTED),
    "RETURN goes on in the caller": (tcp, "client", "server", 1101, CONNECTED),
    "goto returns to the caller's caller": (tcp, "client", "server", 1102, CONNECTED),
    "dropped in the chain of a goto": (tcp, "client", "server", 1103, SILENCE),
    "the end of a user chain": (tcp, "client", "server", 1104, CONNECTED),
    "a policy of DROP": (tcp, "client", "server", 1200, SILENCE),
    "accepted by a mark": (tcp, "client", "server", 1300, CONNECTED),
    "ICMP error of the server is RELATED": (udp, "client", "server", 9, "ECONNREFUSED"),
    "ping": (ping, "client", "server", 0, ANSWERED),
    "no connection from the server": (tcp, "server", "client", 1001, SILENCE),
    "no ping from the server": (ping, "server", "client", 0, SILENCE),
    "to the firewall, accepted": (tcp, "client", "firewall", 2222, CONNECTED),
    "to the firewall, rejected": (tcp, "client", "firewall", 2223, "ECONNREFUSED"),
    "to the firewall, policy": (tcp, "client", "firewall", 2224, SILENCE),
    "from the firewall, accepted": (tcp, "firewall", "server", 1200, CONNECTED),
    "from the firewall, rejected": (tcp, "firewall", "server", 3333, "ECONNREFUSED"),
    "from the firewall, dropped": (tcp, "firewall", "server", 3334, SILENCE),
    "within the firewall, over lo": (tcp, "firewall", "firewall", 2224, CONNECTED),
}
TCP_PORTS = [question[3] for question in QUESTIONS.values() if question[0] is tcp]


def expected(name: str, family: int) -> str | None:
    """The word; None: not asked of this family."""
    word = QUESTIONS[name][4]
    return word if isinstance(word, str) else word[family == 6]


NAMES = [(name, family) for name in QUESTIONS for family in (4, 6) if expected(name, family)]


def address(lab, asker: str, asked: str, family: int) -> str:
    return lab.host(asked).address(family, "eth1" if (asker, asked) == ("server", "firewall") else "eth0")


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """kind -> ({(name, family): word}, counters); each kind is asked once, in a lab of its own."""
    done = {}

    def get(kind: str):
        if kind not in done:
            done[kind] = interview(kind, tmp_path_factory.mktemp(kind))
        return done[kind]

    return get


def interview(kind: str, directory):
    with Lab() as lab, make(kind, lab.firewall, directory) as firewall:
        for host in lab.hosts.values():     # errors come as fast as they are asked for, in both kinds
            host.set_sysctl("net.ipv4.icmp_ratelimit", 0)
            host.set_sysctl("net.ipv6.icmp.ratelimit", 0)
        firewall.load(RULES4, RULES6.replace("-A INPUT -i lo", NEIGHBOURS6 + "-A INPUT -i lo"))
        with listening(lab.client, [1001]), listening(lab.firewall, [2222, 2223, 2224]), listening(lab.server, sorted(set(TCP_PORTS))):
            words = ask_all([(QUESTIONS[name][0], lab.host(QUESTIONS[name][1]),
                              address(lab, QUESTIONS[name][1], QUESTIONS[name][2], family), QUESTIONS[name][3])
                             for name, family in NAMES])
            time.sleep(0.3)                 # last ACKs
            counters = firewall.stop()
    return dict(zip(NAMES, words)), counters


@pytest.mark.parametrize("name, family", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_verdict(answers, kind, name, family):
    assert answers(kind)[0][name, family] == expected(name, family)


# Chains where every packet of the questions is counted and no packet of the kernel's own (MLD, neighbours) can be.
EXACT_CHAINS = {"FORWARD", "services", "deep"}


@pytest.mark.parametrize("kind", KINDS[1:])
def test_counters_are_the_kernels(answers, kind):
    """Rule by rule and policy, packets and bytes."""
    kernel, own = ({key: value for key, value in answers(which)[1].items() if key[1] == "filter" and key[2] in EXACT_CHAINS}
                   for which in ("kernel", kind))
    assert own == kernel
    assert sum(packets for packets, _ in kernel.values()) > 100
