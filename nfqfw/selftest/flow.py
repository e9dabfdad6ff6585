"""Cases as text: one file tells one story, and runs on the kernel and on nfqfw, as IPv4 and as IPv6.

    # orderly close by the server                         a comment
    family 4                                              4, 6 or both (default)
    set nf_conntrack_tcp_loose 0                          a sysctl of this case
    nfct add timeout short $inet tcp established 10       a time-out policy for its rules
    rules                                                 iptables-save text up to `end`; $C0 $S0 $R1 ... are addresses,
    *filter                                               $icmp the family's ICMP protocol
    ...
    end
    +0     client tcp S 100:101(0)      ; NEW SYN_SENT    delay in seconds, where it enters, packet ; expected
    +0.01  server tcp S. 500:501(0) ack 101 ; ESTABLISHED SYN_RECV 60

    +0     run conntrack -L expect                       a command on the connections (or of nfct): what it says is compared between the twins

Where it enters: `client` and `server` are the router's two links, `local` means sent by the router.  Ends that are not
written are C0:1111>S0:80 for TCP, C0:5000>S0:53 for UDP and C0>S0 otherwise, turned round for `server`; the router's own
are R1>C0 with the same ports.

Expected: the class that --ctstate sees (or -), the state of the packet's connection (a tracker's name, `none` for no entry,
`any` for an entry without states, or -), its time-out in seconds (+- 1), and `assured` or `unreplied`.  What is left out is not
compared with the text, only between the twins.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from nfqfw.selftest.case import POINTS, Case, Step
from nfqfw.selftest.outcome import ASSURED, SEEN_REPLY, Connection, Outcome
from nfqfw.selftest.packets import IPV4, IPV6, FlowError, Packet, address, icmp_type, parse_packet, protocol

CLASSES = ("INVALID", "NEW", "ESTABLISHED", "RELATED", "UNTRACKED")
_FAMILIES = {"4": (IPV4,), "6": (IPV6,), "both": (IPV4, IPV6)}
_PORTS = {"tcp": (1111, 80), "udp": (5000, 53), "udplite": (5000, 53), "sctp": (7777, 80)}
_COMMAND = re.compile(r"^\+([\d.]+)\s+run\s+(conntrack|nfct)\s+(.*)$")
_STEP = re.compile(r"^\+([\d.]+)\s+(\w+)\s+([^;]+?)\s*(?:;\s*(.*))?$")


def read_flow(path: Path) -> list[Case]:
    """The cases of a file: one per family it names."""
    return parse_flow(path.read_text(), path.stem)


def parse_flow(text: str, name: str = "flow") -> list[Case]:
    families, rules, settings, policies, steps = _FAMILIES["both"], "", {}, [], []
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        line = line.strip()
        try:
            if not line or line.startswith("#"):
                continue
            if line.startswith("family "):
                families = _FAMILIES[line.split()[1]]
            elif line.startswith("set "):
                _, key, value = line.split()
                settings[key] = value
            elif line.startswith("nfct "):
                policies.append(line.removeprefix("nfct "))
            elif line == "rules":
                rules = _until_end(lines)
            else:
                steps.append(_step(line))
        except (FlowError, KeyError, ValueError, IndexError) as error:
            raise FlowError(f"{name}:{number}: {error}\n{line}") from error
    return [Case(f, substitute(rules, f), [replace(s, command=substitute(s.command, f)) for s in steps], f"{name}/v{4 if f == IPV4 else 6}",
                 settings, [substitute(p, f) for p in policies]) for f in families]


def _until_end(lines) -> str:
    out = []
    for _, line in lines:
        if line.strip() == "end":
            return "\n".join(out) + "\n"
        if line.strip() and not line.strip().startswith("#"):
            out.append(line.strip())
    raise FlowError("rules without end")


def substitute(rules: str, family: int) -> str:
    rules = rules.replace("$icmpname", "icmp" if family == IPV4 else "icmpv6").replace("$icmp", "icmp" if family == IPV4 else "ipv6-icmp").replace("$inet", "inet" if family == IPV4 else "inet6")
    return re.sub(r"\$([CSRBNM]\d*)", lambda m: address(m[1], family), rules)


def _step(line: str) -> Step:
    command = _COMMAND.match(line)
    if command:
        return Step(float(command[1]), "", Packet(), command=command[3], tool=command[2])
    found = _STEP.match(line)
    if not found or found[2] not in POINTS:
        raise FlowError("a step is: +SECONDS client|server|local PACKET [; EXPECTED]")
    packet = parse_packet(found[3], _default(found[2], found[3]))
    words = (found[4] or "").split()
    return Step(float(found[1]), found[2], packet, words[0] if words else "", " ".join(words[1:]))


def _default(point: str, text: str) -> Packet:
    proto = next((word for word in _PORTS if re.search(rf"\b{word}\b", text)), "")
    a, b = _PORTS.get(proto, (0, 0))
    if point == "server":
        return Packet(src="S0", dst="C0", sport=b, dport=a)
    return Packet(src="R1" if point == "local" else "C0", dst="C0" if point == "local" else "S0", sport=a, dport=b)


# ---- what a human expects -------------------------------------------------------------------------------------------

def disappointments(case: Case, outcome: Outcome) -> list[str]:
    """Expected classes and states that the outcome (with classes and states asked for) does not show."""
    out = []
    for i, step in enumerate(case.steps):
        if step.command:
            continue
        where = f"{case.name} packet {i + 1} ({step.packet.text()})"
        if step.ctstate not in ("", "-") and (outcome.classes[i] or "none") != step.ctstate:
            out.append(f"{where}: class {outcome.classes[i] or 'none'}, expected {step.ctstate}")
        if step.state:
            found = connection_of(step.packet, case.family, outcome.states[i])
            out += [f"{where}: {text}" for text in _state_differs(step.state.split(), found)]
    return out


def connection_of(packet: Packet, family: int, connections: list[Connection]) -> Connection | None:
    """The connection that this packet belongs to (for an ICMP error the one it quotes), or None."""
    while packet.inner is not None:
        packet = packet.inner
    ends = (address(packet.src, family), address(packet.dst, family))
    number = protocol(packet, family)
    for c in connections:
        for side in (c.original, c.reply):
            if c.proto == number and side[:2] == ends and (number in (1, 58) or side[2:] == (packet.sport, packet.dport)
                                                          or number not in (6, 17, 132, 136)):
                if number not in (1, 58) or side[2] == packet.ident and side[3] == _icmp_key(packet, family):
                    return c
    return None


def _icmp_key(packet: Packet, family: int) -> int:
    kind, code = icmp_type(packet, family)
    return kind << 8 | code


def _state_differs(words: list[str], c: Connection | None) -> list[str]:
    state, *rest = words
    if state == "none":
        return [f"an entry: {c}"] if c else []
    if state == "-" and not rest:
        return []
    if c is None:
        return [f"no entry, expected {state}"]
    out = []
    if state not in ("any", "-") and c.state != state:
        out.append(f"state {c.state or 'none'}, expected {state}")
    for word in rest:
        if word == "assured" and not c.status & ASSURED or word == "unassured" and c.status & ASSURED:
            out.append(f"not {word}")
        elif word == "unreplied" and c.status & SEEN_REPLY or word == "replied" and not c.status & SEEN_REPLY:
            out.append(f"not {word}")
        elif word.isdigit() and not int(word) - 2 <= c.timeout <= int(word):
            out.append(f"time-out {c.timeout}, expected {word}")
    return out


def write_flow(case: Case, note: str = "") -> str:
    """The text of a case; parse_flow() reads it back."""
    out = [f"# {line}" for line in note.splitlines()]
    out.append(f"family {4 if case.family == IPV4 else 6}")
    out += [f"set {k} {v}" for k, v in case.settings.items()]
    out += [f"nfct {command}" for command in case.policies]
    out += ["rules", case.rules.strip(), "end"] if case.rules.strip() else []
    for step in case.steps:
        if step.command:
            out.append(f"+{step.delay:g} run {step.tool} {step.command}")
            continue
        expected = " ".join(filter(None, (step.ctstate or ("-" if step.state else ""), step.state)))
        out.append(f"+{step.delay:g} {step.point} {step.packet.text()}" + (f" ; {expected}" if expected else ""))
    return "\n".join(out) + "\n"
