"""What the demo must observe: one row per question, with the rule of data/demo.v4 and demo.v6 that answers it."""

from collections.abc import Callable
from dataclasses import dataclass

from nfqfw.demo.traffic import CLIENT_PORT, OK, PROHIBITED, REFUSED, REPLIES, SILENCE, connect, http_get, ping, udp


@dataclass(frozen=True, slots=True)
class Expectation:
    """`asker` puts `probe` to `asked` and must see `expected`, because of `verdict` by the rule with this comment (or the policy)."""
    name: str
    family: int                     # 4 or 6
    asker: str
    asked: str
    probe: Callable
    expected: str
    verdict: str
    rule: str                       # comment of the deciding rule; "" = the policy of FORWARD


def row(name, family, probe, expected, verdict, rule, asker="client", asked="server") -> Expectation:
    return Expectation(name, family, asker, asked, probe, expected, verdict, rule)


EXPECTATIONS = (
    row("HTTP to the web server", 4, http_get, OK, "ACCEPT", "web"),
    row("ping the server", 4, ping, REPLIES, "ACCEPT", "ping"),
    row("ssh, port 22", 4, connect(22), SILENCE, "DROP", "ssh"),
    row("telnet, port 23", 4, connect(23), REFUSED, "REJECT tcp-reset", "telnet"),
    row("smtp, port 25", 4, connect(25), PROHIBITED, "REJECT icmp-admin-prohibited", "smtp"),
    row("UDP to a closed port (ICMP error is RELATED)", 4, udp(9), REFUSED, "ACCEPT", "udp"),
    row("port 8443, which no rule names", 4, connect(8443), SILENCE, "DROP", ""),
    row("a new connection to the client", 4, connect(CLIENT_PORT), SILENCE, "DROP", "", "server", "client"),
    row("ping the firewall", 4, ping, REPLIES, "ACCEPT", "ping firewall", "client", "firewall"),
    row("HTTP to the web server", 6, http_get, OK, "ACCEPT", "web"),
    row("ping the server", 6, ping, REPLIES, "ACCEPT", "ping"),
    row("ssh, port 22", 6, connect(22), SILENCE, "DROP", "ssh"),
    row("telnet, port 23", 6, connect(23), REFUSED, "REJECT tcp-reset", "telnet"),
    row("UDP to a closed port (ICMP error is RELATED)", 6, udp(9), REFUSED, "ACCEPT", "udp"),
    row("a new connection to the client", 6, connect(CLIENT_PORT), SILENCE, "DROP", "", "server", "client"),
)
