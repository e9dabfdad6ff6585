"""Value types of extension options: how each is read and printed.

A type is a pair: read(text, opt, name, env) -> value, and text(value) -> what save prints.  Error texts are those of
iptables' option parser; `name` is the extension's.
"""

from __future__ import annotations

import re
from typing import Callable, NamedTuple

from nfqfw.errors import RuleError
from nfqfw.ext import names
from nfqfw.protocols import SYSLOG_NUMBER

MAX = {"u8": 0xFF, "u16": 0xFFFF, "u32": 0xFFFFFFFF, "u64": 0xFFFFFFFFFFFFFFFF}


class ValueType(NamedTuple):
    read: Callable
    text: Callable[[object], str]


def read_int(high: int) -> Callable:
    def read(text, opt, name, env):
        low, top = opt.low, high if opt.high is None else opt.high
        value = names.unsigned(text, low, top)
        if value is None:
            raise RuleError(f'{name}: bad value for option "--{opt.name}", or out of range ({low}-{top}).\n')
        return value
    return read


def read_range(high: int) -> Callable:
    """`a`, `a:b`, `:b`, `a:`; both ends included."""
    def read(text, opt, name, env):
        low, top = opt.low, high if opt.high is None else opt.high
        parts = text.split(":")
        rest = text
        ends = []
        for i, part in enumerate(parts):
            default = low if i == 0 else top
            value = default if part == "" and len(parts) > 1 else names.unsigned(part, low, top)
            if value is None or i > 1:
                raise RuleError(f'{name}: bad value for option "--{opt.name}" near "{rest}", or out of range ({low}-{top}).\n',
                                offset=len(text) - len(rest))
            ends.append(value)
            rest = rest[len(part) + 1:]
        if ends[0] > ends[-1]:
            raise RuleError(f'{name}: range "{text}" of option "--{opt.name}" is reversed\n')
        return ends[0], ends[-1]
    return read


def range_text(value) -> str:
    return str(value[0]) if value[0] == value[1] else f"{value[0]}:{value[1]}"


def read_string(text, opt, name, env):
    if opt.high is not None and len(text.encode(errors="surrogateescape")) > opt.high:
        raise RuleError(f'{name}: Argument must have a maximum length of {opt.high} characters\n')
    if opt.low and len(text) < opt.low:
        raise RuleError(f'{name}: Argument must have a minimum length of {opt.low} characters\n')
    return text


def read_mark(text, opt, name, env):
    """`value[/mask]`, both C numbers of 32 bits."""
    value_text, slash, mask_text = text.partition("/")
    value = names.unsigned(value_text)
    mask = names.unsigned(mask_text) if slash else 0xFFFFFFFF
    if value is None:
        raise RuleError(f'{name}: bad integer value for option "--{opt.name}", or out of range.\n')
    if mask is None:
        garbage = names.NUMBER.match(mask_text)
        raise RuleError(f'{name}: trailing garbage after value for option "--{opt.name}".\n' if garbage else
                        f'{name}: bad integer value for option "--{opt.name}", or out of range.\n', offset=len(value_text) + 1)
    return value, mask


def mark_text(value) -> str:
    return f"{value[0]:#x}" if value[1] == 0xFFFFFFFF else f"{value[0]:#x}/{value[1]:#x}"


def read_ports(text, opt, name, env):
    """`port[:port]` of libxtables: numbers or services, an empty end is the limit."""
    proto = names.transport_name(env.protocol)
    low_text, colon, high_text = text.partition(":")
    low = names.parse_port(low_text, proto, env.resolver) if low_text or not colon else 0
    high = low if not colon else names.parse_port(high_text, proto, env.resolver) if high_text else 65535
    if low > high:
        raise RuleError("invalid portrange (min > max)")
    return low, high


def read_network(text, opt, name, env):
    """`host[/mask]` with one address."""
    found, mask = names.parse_network(text, env.family, env.resolver)
    if len(found) > 1:
        raise RuleError(f'{name}: option "--{opt.name}": `{text}\' resolves to more than one address\n')
    return found[0], mask


def read_raw_network(text, opt, name, env):
    """As read_network, but bits outside the mask are kept: libxtables' hostmask does not mask."""
    host, slash, mask_text = text.partition("/")
    mask = names.parse_mask(mask_text, env.family) if slash else names.ALL_ONES[env.family]
    if mask is None:
        raise RuleError(f"netmask: `{mask_text}' is not a valid mask", offset=len(host) + 1)
    return read_host(host, opt, name, env), mask


def network_text(value) -> str:
    return names.address_text(value[0]) + names.mask_suffix(value[1], always=False)


def read_host(text, opt, name, env):
    found = names.parse_address(text, env.family)
    if found is None:
        addresses = env.resolver.addresses(text, env.family) if names.may_be_name(text) else []
        if not addresses:
            raise RuleError(f"host/network `{text}' not found")
        found = addresses[0]
    return found


def read_protocol(text, opt, name, env):
    """A protocol by number or name, in any case."""
    number = names.unsigned(text, 0, 255)
    if number is None:
        number = names.protocol_number(text.lower())
    if number is None:
        raise RuleError(f'unknown protocol "{text}" specified')
    return number


def read_syslog(text, opt, name, env):
    """A syslog level by number or name."""
    number = names.unsigned(text, 0, 7)
    if number is not None:
        return number
    level = SYSLOG_NUMBER.get(text)
    if level is not None:
        return level
    raise RuleError(f'log level "{text}" unknown\n')


def read_double(text, opt, name, env):
    high = 1 if opt.high is None else opt.high
    if re.fullmatch(r"\s*[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?)", text) is None:
        raise RuleError(f'{name}: bad value for option "--{opt.name}", or out of range ({opt.low}-{high}).\n')
    value = float(text)
    if not opt.low <= value <= high:
        raise RuleError(f'{name}: bad value for option "--{opt.name}", or out of range ({opt.low}-{high}).\n')
    return value


MAC = re.compile(r"[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}\Z")


def read_mac(text, opt, name, env):
    if not MAC.match(text):
        raise RuleError("Invalid MAC address specified.")
    return bytes(int(part, 16) for part in text.split(":"))


def mac_text(value: bytes) -> str:
    return ":".join(f"{byte:02x}" for byte in value)


TYPES: dict[str, ValueType] = {
    **{kind: ValueType(read_int(high), str) for kind, high in MAX.items()},
    **{kind + ":range": ValueType(read_range(high), range_text) for kind, high in MAX.items()},
    "string": ValueType(read_string, names.quote),
    "mark": ValueType(read_mark, mark_text),
    "ports": ValueType(read_ports, range_text),
    "network": ValueType(read_network, network_text),
    "hostmask": ValueType(read_raw_network, network_text),
    "host": ValueType(read_host, names.address_text),
    "protocol": ValueType(read_protocol, str),
    "syslog": ValueType(read_syslog, str),
    "double": ValueType(read_double, str),
    "mac": ValueType(read_mac, mac_text),
}
