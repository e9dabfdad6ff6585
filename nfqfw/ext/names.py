"""Numbers, services, protocols, hosts and masks as iptables reads and prints them.

Lookups of names go through a `Resolver`, so that a daemon can let its client answer them and tests need no files.
"""

from __future__ import annotations

import re
import socket
from functools import lru_cache

from nfqfw.errors import RuleError
from nfqfw.protocols import NAME_OF, protocol_number

NUMBER = re.compile(r"[ \t\n\v\f\r]*\+?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
DOTTED = re.compile(r"\d{1,10}(?:\.\d{1,10}){0,3}\Z", re.ASCII)
V4, V6 = 2, 10                     # address families
BYTES = {V4: 4, V6: 16}
ALL_ONES = {V4: b"\xff" * 4, V6: b"\xff" * 16}
ZEROS = {V4: bytes(4), V6: bytes(16)}


class Resolver:
    """Names of this host: /etc/services, /etc/hosts, DNS."""

    @staticmethod
    def has_set(name: str) -> bool:
        """Whether there is an ipset of that name.  nfqfw has no sets of its own yet."""
        return False

    @staticmethod
    def port(service: str, proto: str | None) -> int | None:
        try:
            return socket.getservbyname(service, proto) if proto else socket.getservbyname(service)
        except (OSError, ValueError):
            return None

    @staticmethod
    @lru_cache(maxsize=70_000)
    def service(port: int, proto: str | None) -> str | None:
        try:
            return socket.getservbyport(port, proto) if proto else socket.getservbyport(port)
        except (OSError, ValueError, OverflowError):
            return None

    @staticmethod
    def addresses(host: str, family: int) -> list[bytes]:
        """Addresses of a host name in wire order, duplicates removed."""
        try:
            found = socket.getaddrinfo(host, None, family, socket.SOCK_RAW)
        except (OSError, UnicodeError, ValueError):
            return []
        return list(dict.fromkeys(socket.inet_pton(family, entry[4][0].split("%")[0]) for entry in found))

    @staticmethod
    @lru_cache(maxsize=10_000)
    def host(address: bytes) -> str | None:
        """Host name of an address, or None."""
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        try:
            return socket.getnameinfo((socket.inet_ntop(family, address), 0), socket.NI_NAMEREQD)[0]
        except (OSError, UnicodeError):
            return None


class FileResolver(Resolver):
    """For files that are checked apart from any host: names of sets are taken on trust."""

    @staticmethod
    def has_set(name: str) -> bool:
        return True


def unsigned(text: str, low: int = 0, high: int = 0xFFFFFFFF) -> int | None:
    """The whole text as a C number (0x.., 0.., decimal) in low..high, or None."""
    found = NUMBER.fullmatch(text)
    if found is None:
        return None
    digits = found.group(1)
    value = int(digits, 16) if digits[:2] in ("0x", "0X") else int(digits, 8) if digits[0] == "0" else int(digits)
    return value if low <= value <= high else None


def parse_port(text: str, proto: str | None, resolver) -> int:
    """A port by number or service name."""
    port = unsigned(text, 0, 65535)
    if port is None:
        port = resolver.port(text, proto)
    if port is None:
        raise RuleError(f"invalid port/service `{text}' specified")
    return port


def parse_protocol(text: str) -> int:
    """A protocol by number or name, as -p reads it (the caller has lowered the case)."""
    number = unsigned(text, 0, 255)
    if number is None:
        number = protocol_number(text)
    if number is None:
        raise RuleError(f'unknown protocol "{text}" specified')
    return number


def transport_name(proto: int) -> str | None:
    """Name by which /etc/services knows a protocol with ports."""
    return NAME_OF.get(proto) if proto in (6, 17, 132, 136, 33) else None


# ---- addresses -----------------------------------------------------------------------------------------------------------

def parse_address(text: str, family: int) -> bytes | None:
    """A numeric address in wire order, or None.  IPv4 may be short: 1.2.3 is 1.2.3.0 (spec 3.5)."""
    if family == V6:
        try:
            return socket.inet_pton(socket.AF_INET6, text)
        except (OSError, ValueError):
            return None
    if not DOTTED.match(text):
        return None
    parts = [int(part) for part in text.split(".")]
    if any(part > 255 for part in parts):
        return None
    return bytes(parts + [0] * (4 - len(parts)))


def parse_mask(text: str, family: int) -> bytes | None:
    """A mask by prefix length or, as an address, by its bits."""
    bits = BYTES[family] * 8
    if text.isdigit() and text.isascii():
        length = unsigned(text, 0, bits)
        if length is not None:
            return prefix_mask(length, family)
        return None
    if family == V4:
        return parse_address(text, V4) if text.count(".") == 3 else None
    return parse_address(text, V6)


def prefix_mask(length: int, family: int) -> bytes:
    bits = BYTES[family] * 8
    return (((1 << length) - 1) << (bits - length)).to_bytes(BYTES[family], "big")


@lru_cache(maxsize=4096)
def prefix_length(mask: bytes) -> int | None:
    """Length of the prefix a mask stands for, None if its ones are not contiguous."""
    bits = len(mask) * 8
    inverse = ~int.from_bytes(mask, "big") & ((1 << bits) - 1)
    return bits - inverse.bit_length() if inverse & (inverse + 1) == 0 else None


def address_text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def mask_suffix(mask: bytes, always: bool) -> str:
    """`/24`, or `/255.0.255.0` where no prefix says it; nothing for a whole address unless `always`."""
    length = prefix_length(mask)
    if length is None:
        return "/" + address_text(mask)
    return f"/{length}" if always or length != len(mask) * 8 else ""


def parse_network(text: str, family: int, resolver) -> tuple[list[bytes], bytes]:
    """`address[/mask]`: the addresses (a name may have several), masked, and the mask."""
    host, slash, mask_text = text.partition("/")
    mask = parse_mask(mask_text, family) if slash else ALL_ONES[family]
    if mask is None:
        raise RuleError(f"invalid mask `{mask_text}' specified", offset=len(host) + 1)
    if mask == ZEROS[family]:
        if parse_address(host, family) is None and not resolver.addresses(host, family):
            raise RuleError(f"host/network `{host}' not found")
        return [ZEROS[family]], mask
    return [masked(address, mask) for address in parse_host(host, family, resolver)], mask


def parse_host(host: str, family: int, resolver) -> list[bytes]:
    """A numeric address or the addresses of a name."""
    address = parse_address(host, family)
    if address is not None:
        return [address]
    found = resolver.addresses(host, family) if may_be_name(host) else []
    if not found:
        raise RuleError(f"host/network `{host}' not found")
    return found


def may_be_name(host: str) -> bool:
    """Whether to ask the resolver: its own numeric forms (`1`, `0x7f.1`, `1.2.3.400`) are not names."""
    return bool(host) and host.isascii() and ":" not in host and not re.fullmatch(r"[0-9.]+|0[xX].*", host)


def masked(address: bytes, mask: bytes) -> bytes:
    size = len(address)
    return (int.from_bytes(address, "big") & int.from_bytes(mask, "big")).to_bytes(size, "big")


# ---- strings -------------------------------------------------------------------------------------------------------------

PLAIN = re.compile(r"[A-Za-z0-9_-]+\Z", re.ASCII)


def quote(text: str) -> str:
    """A string as save prints it: bare if it is made of letters, digits, _ and -, else quoted (spec 3.3)."""
    if PLAIN.match(text):
        return text
    return '"' + re.sub(r"([\"\\'])", r"\\\1", text) + '"'


def cut(text: str, size: int) -> str:
    """At most `size` bytes of the text, as the kernel's buffer keeps them."""
    raw = text.encode(errors="surrogateescape")
    return text if len(raw) <= size else raw[:size].decode(errors="surrogateescape")


def leading_number(text: str) -> int:
    """As atoi: digits up to the first other character."""
    digits = ""
    for char in text.strip():
        if not ("0" <= char <= "9"):
            break
        digits += char
    return min(int(digits[:12] or 0), 0xFFFFFFFF)


def wide_mask(length: int, bits: int) -> bytes:
    """16 bytes, as an address lies in a packet: `length` ones of `bits`."""
    return (((1 << length) - 1) << (bits - length)).to_bytes(bits // 8, "big").ljust(16, b"\0")
