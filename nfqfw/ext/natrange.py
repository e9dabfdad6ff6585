"""What the NAT targets share: reading `address[-address][:port[-port[/base]]]`, printing it, and struct NatInfo."""

from __future__ import annotations

import re
import socket
import struct

from nfqfw.errors import RuleError
from nfqfw.ext.lowering import Action
from nfqfw.protocols import DCCP, ICMP, ICMPV6, SCTP, TCP, UDP

RANGE, MASQUERADE, REDIRECT, NETMAP = range(4)                  # enum NatKind of _nat.pxd
MAP_IPS, PORTS, RANDOM, PERSISTENT, RANDOM_FULLY, OFFSET = 1, 2, 4, 8, 16, 32   # NF_NAT_RANGE_* of the kernel
NAT_INFO = struct.Struct("<BBH16s16sHHHH")
FEATURES = ("conntrack", "defrag", "nat", "rewrites")
PORT_PROTOCOLS = (TCP, UDP, SCTP, DCCP, ICMP, ICMPV6)           # of -p, inverted or not
RANDOM_WORDS = ((RANDOM, "random"), (RANDOM_FULLY, "random-fully"), (PERSISTENT, "persistent"))
LEADING = re.compile(r"[ \t\n\v\f\r]*[+]?(0[xX][0-9a-fA-F]+|[0-9]+)")


def leading_number(text: str) -> tuple[int, str] | None:
    """The C number that the text starts with, and the rest; None if it starts with none."""
    found = LEADING.match(text)
    if found is None:
        return None
    digits = found.group(1)
    if digits[:2] in ("0x", "0X"):
        value = int(digits, 16)
    elif digits[0] == "0":
        octal = re.match("[0-7]+", digits).group()
        return int(octal, 8), text[found.start(1) + len(octal):]
    else:
        value = int(digits)
    return value, text[found.end():]


def read_port(text: str, resolver) -> tuple[int, str]:
    """One port, by number or (then the whole text is its name) by service; and what follows it."""
    number = leading_number(text)
    if number is None:
        port = resolver.port(text, None)
        if port is None:
            raise RuleError(f"Port `{text}' not valid")
        return port, ""
    if number[0] > 65535:
        raise RuleError(f"Port `{text}' not valid")
    return number


def read_ports(text: str, resolver) -> tuple[int, int, int | None]:
    """`port[-port[/base]]` -> lowest, highest, base (None = no shift)."""
    low, rest = read_port(text, resolver)
    if not rest:
        return low, low, None
    if rest[0] == ":":
        raise RuleError("Invalid port:port syntax - use dash")
    if rest[0] != "-":
        raise RuleError(f"Garbage after port value: `{rest}'")
    text = rest[1:]
    high, rest = read_port(text, resolver)
    if high < low:
        raise RuleError(f"Port range `{text}' funky")
    if not rest:
        return low, high, None
    if rest[0] != "/":
        raise RuleError(f"Garbage after port range: `{rest}'")
    base, rest = read_port(rest[1:], resolver)
    if rest:
        raise RuleError(f"Garbage after base port: `{rest}'")
    return low, high, base


def need_ports(env) -> None:
    if env.protocol not in PORT_PROTOCOLS:
        raise RuleError("Need TCP, UDP, SCTP or DCCP with port specification")


def read_address(text: str, family: int) -> bytes:
    try:
        return socket.inet_pton(family, text)
    except (OSError, ValueError):
        raise RuleError(f'Bad IP address "{text}"') from None


def split_ports(text: str, family: int) -> tuple[str, str | None]:
    """(addresses, ports or None) of `--to`: brackets hold IPv6 addresses, and one colon stands before ports."""
    if "[" in text:
        start = text.index("[") + 1
        end = text.find("]", start)
        if end < 0 or family == 2:
            raise RuleError("Invalid address format")
        colon = text.find(":", end + 1)
        return text[start:end], None if colon < 0 else text[colon + 1:]
    if text.count(":") == 1:
        addresses, _, ports = text.partition(":")
        return addresses, ports
    return text, None


def read_to(text: str, env) -> dict:
    """`--to-source` / `--to-destination` -> flags, first, last (addresses), ports (low, high), base."""
    addresses, ports = split_ports(text, env.family)
    value = {"flags": 0, "first": b"", "last": b"", "ports": (0, 0), "base": 0}
    if ports is not None:
        need_ports(env)
        low, high, base = read_ports(ports, env.resolver)
        value["ports"] = (low, high)
        value["flags"] |= PORTS
        if base is not None:
            value["flags"] |= OFFSET
            value["base"] = base
        if not addresses:
            return value
    first, dash, last = addresses.partition("-")
    value["flags"] |= MAP_IPS
    value["first"] = read_address(first, env.family)
    value["last"] = read_address(last, env.family) if dash else value["first"]
    return value


def ports_text(flags: int, ports: tuple[int, int], base: int) -> str:
    text = str(ports[0]) if ports[0] == ports[1] else f"{ports[0]}-{ports[1]}"
    return text + (f"/{base}" if flags & OFFSET else "")


def to_text(value: dict) -> str:
    """The range as save and -L print it."""
    text = ""
    if value["flags"] & MAP_IPS:
        family = socket.AF_INET if len(value["first"]) == 4 else socket.AF_INET6
        text = socket.inet_ntop(family, value["first"])
        if value["last"] != value["first"]:
            text += "-" + socket.inet_ntop(family, value["last"])
        if len(value["first"]) == 16 and value["flags"] & PORTS:
            text = f"[{text}]"
    if value["flags"] & PORTS:
        text += ":" + ports_text(value["flags"], value["ports"], value["base"])
    return text


def random_words(flags: int, prefix: str) -> str:
    return "".join(f" {prefix}{word}" for bit, word in RANDOM_WORDS if flags & bit)


def random_flags(values: dict) -> int:
    return sum(bit for bit, word in RANDOM_WORDS if word.replace("-", "_") in values)


def action(kind: int, family: int, flags: int, first=b"", last=b"", ports=(0, 0), base=0, reroutes=False) -> Action:
    """The Action of a NAT target; `reroutes`: in OUTPUT it changes where the packet goes."""
    info = NAT_INFO.pack(kind, family, flags, first, last, ports[0], ports[1], base, 0)
    return Action("nat", info, FEATURES + (("reroutes",) if reroutes else ()))
