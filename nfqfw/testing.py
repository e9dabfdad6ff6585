"""A ruleset under test: packets in, verdicts out, in pytest or a script, without root and without traffic.

    host = Host.offline({"eth0": ["10.0.1.1/24"], "eth1": ["10.0.2.1/24"]})         # or Host.snapshot(FILE); says which way packets go
    firewall = Firewall("rules.v4", host=host)
    assert firewall.send("tcp", "10.0.1.2", "10.0.2.2:80").verdict == "ACCEPT"
    assert firewall.send("tcp", "10.0.2.2:80", "10.0.1.2:40000", flags="S.").verdict == "ACCEPT"     # the answer: ESTABLISHED
    assert firewall.send("tcp", "10.0.1.2", "10.0.2.2:22").verdict == "DROP"

Connections, limits and counters go on from packet to packet; `after` lets time pass.  The engine is the one that filters live.
"""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from nfqfw import rules as language
from nfqfw.conntrack import nfct
from nfqfw.conntrack.timeouts import PolicyList
from nfqfw.host import Host
from nfqfw.queue.capture import Captured
from nfqfw.replay import Replay
from nfqfw.report.packet import Summary
from nfqfw.selftest.packets import ICMP_NAMES, TCP_FLAGS, Packet, build

PROTOCOLS = ("tcp", "udp", "icmp", "sctp", "udplite", "gre")
WITH_PORTS = ("tcp", "udp", "sctp", "udplite")
CLIENT_PORT = 40000             # source port when none is given
START_NS = 1_700_000_000 * 10**9    # wall clock of the first packet, unless told otherwise: -m time must not depend on today
IPV4, IPV6 = 2, 10


class End:
    """ADDRESS, ADDRESS:PORT, or [ADDRESS]:PORT for IPv6.  ValueError says what is wrong."""

    def __init__(self, text: str) -> None:
        host, port = text, ""
        if text.startswith("["):
            host, _, port = text[1:].partition("]")
            port = port.removeprefix(":")
        elif text.count(":") == 1:
            host, _, port = text.partition(":")
        try:
            self.address = ipaddress.ip_address(host)
            self.port = int(port) if port else 0
        except ValueError:
            raise ValueError(f"{text!r} is no address or address:port (IPv6 with port: [address]:port)") from None
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port {self.port} is not in 0..65535")

    @property
    def family(self) -> int:
        return IPV4 if self.address.version == 4 else IPV6


def packet(protocol: str, source: str | End, destination: str | End, *, flags: str = "S", type: str = "echo-request", length: int = 0,
           ttl: int = 64, tos: int = 0, seq: int = 0, ack: int = 0) -> bytes:
    """Wire bytes from the IP header on, checksums right.  flags: letters S F R P . (ACK) U E W, "-" = none.  ValueError."""
    one, other = (end if isinstance(end, End) else End(end) for end in (source, destination))
    name, _, code = type.partition("/")
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol}: one of {', '.join(PROTOCOLS)}")
    if one.family != other.family:
        raise ValueError(f"{one.address} and {other.address} are of different IP versions")
    if protocol in WITH_PORTS and not other.port:
        raise ValueError(f"{protocol} needs a port: {other.address}:PORT")
    if set(flags) - set(TCP_FLAGS) - {"-"}:
        raise ValueError(f"flags {flags}: letters of {''.join(TCP_FLAGS)}, or -")
    if (not name.isdigit() and name not in ICMP_NAMES) or (code and not code.isdigit()):
        raise ValueError(f"type {type}: a number, or one of {', '.join(ICMP_NAMES)}")
    p = Packet(protocol, str(one.address), str(other.address), one.port or CLIENT_PORT, other.port, flags=flags.replace("-", ""),
               ident=1, number=1, length=length, ttl=ttl, tos=tos, seq=seq, ack=ack, code=int(code or 0))
    p.name, p.kind = ("", int(name)) if name.isdigit() else (name, 0)
    return build(p, one.family)


@dataclass(slots=True)
class Outcome:
    """What became of one packet."""
    verdict: str                    # ACCEPT, DROP, HELD, or why routing ended it ("no route", "ttl exceeded", "martian")
    reason: str                     # name of nfqfw's own reason to drop; "none" when the rules decided
    data: bytes                     # as it left, or as it was when it ended
    walk: list = field(default_factory=list)            # the trace: lines, or dicts
    log: list[str] = field(default_factory=list)        # lines of LOG rules
    replies: list[Summary] = field(default_factory=list)    # answers of REJECT

    def __str__(self) -> str:
        return "\n".join([*map(str, self.walk), self.verdict])


class Firewall:
    """Rulesets (files, or texts with a newline) with connections of their own; nothing of this machine is asked.

    timeouts: nfct commands, one a line (a file, or a text with a newline): the time-out policies that CT --timeout may name.
    """

    def __init__(self, rules4: str | Path | None = None, rules6: str | Path | None = None, *, host: Host | None = None, ifin: str = "",
                 ifout: str = "", exact: bool = False, as_data: bool = False, start_ns: int = START_NS, timeouts: str | Path | None = None) -> None:
        policies = read_policies(timeouts)
        rulesets = [load(rules, family, policies) for rules, family in ((rules4, IPV4), (rules6, IPV6)) if rules is not None]
        self.replay = Replay(rulesets, host, (ifin, ifout), True, exact, as_data, policies)
        self.now_ns = start_ns
        self.number = 0

    def send(self, protocol: str, source: str | End, destination: str | End, *, after: float = 0.0, **fields) -> Outcome:
        """One packet, `after` seconds after the one before; fields as `packet` takes them."""
        return self.send_bytes(packet(protocol, source, destination, **fields), after=after)

    def send_bytes(self, data: bytes, *, after: float = 0.0) -> Outcome:
        """The same for a packet made elsewhere, from its IP header on (bytes(scapy_packet) will do)."""
        self.now_ns += int(after * 1e9)
        self.number += 1
        (told,) = self.replay.run([Captured(self.number, self.now_ns, data, len(data), "", b"")])
        own = next((fate for fate in told.fates if fate.number == self.number), None)
        outcome = Outcome(own.verdict, own.reason, own.data) if own else Outcome("HELD", "none", data)
        outcome.replies = [fate.summary for fate in told.fates if fate.number == 0]
        for kind, lines in told.lines:
            (outcome.log if kind == "log" else outcome.walk).extend(lines)
        return outcome

    def counters(self) -> list[dict]:
        """Every rule and policy with its packets and bytes, as `run --json` prints them."""
        return self.replay.totals()["rules"]


def read_policies(commands: str | Path | None) -> PolicyList:
    """The policies that nfct commands make."""
    policies = PolicyList()
    if isinstance(commands, str) and "\n" in commands:
        nfct.load(commands, "timeouts", policies)
    elif commands is not None:
        nfct.load_file(commands, policies)
    return policies


def load(rules: str | Path, family: int, policies: PolicyList | None = None):
    """Checked Ruleset of a file, or of a text."""
    if isinstance(rules, str) and "\n" in rules:
        ruleset = language.load(rules, "rules", family)
    else:
        with open(rules, encoding="utf-8", errors="surrogateescape", newline="") as file:
            ruleset = language.load(file.read(), str(rules), family)
    language.check(ruleset, None, policies)
    return ruleset
