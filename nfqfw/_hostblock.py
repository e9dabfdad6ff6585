"""Host facts as values, and their packing into the flat block of `_host.pxd`.

The layout here is that header's, field by field; `tests/test_host.py` compares the two.  Little-endian, as every platform we
build for.
"""

import struct
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import NamedTuple

HOST_MAGIC = 0x6E665148         # 'nfQH'
INTERFACE = struct.Struct("<II16sIIIHH")
ADDRESS = struct.Struct("<IBBHI16s16sI")
ROUTE = struct.Struct("<BBBBII16s16sIIIII")
HEADER = struct.Struct("<IIQ12I")
ALIGNMENT = 8                   # of each section

IPV4, IPV6 = 2, 10              # AF_INET, AF_INET6
IFF_LOOPBACK = 0x8
TABLE_LOCAL = 255

# What HostHeader keeps of the sysctls: name, value where the kernel does not show it (its own default; ms, mask, per second).
SYSCTLS = {
    "net.ipv4.icmp_ratelimit": 1000,
    "net.ipv4.icmp_ratemask": 6168,
    "net.ipv4.icmp_msgs_per_sec": 1000,
    "net.ipv4.icmp_msgs_burst": 50,
    "net.ipv6.icmp.ratelimit": 100,         # as seen on 6.18; 1000 on older kernels
    "net.ipv4.ip_default_ttl": 64,
}


class Interface(NamedTuple):
    index: int
    name: str
    flags: int = 0              # IFF_*
    mtu: int = 1500             # bytes
    group: int = 0
    master: int = 0             # ifindex of the bridge or VRF, 0 = none
    type: int = 1               # ARPHRD_*


class Address(NamedTuple):
    ifindex: int
    address: IPv4Address | IPv6Address
    prefix: int
    broadcast: IPv4Address | None = None
    flags: int = 0              # IFA_F_*
    scope: int = 0              # RT_SCOPE_*
    order: int = 0              # position in the kernel's list of the interface and family

    @property
    def family(self) -> int:
        return IPV4 if self.address.version == 4 else IPV6


class Route(NamedTuple):
    family: int
    destination: IPv4Address | IPv6Address
    prefix: int
    type: int = 1               # RTN_*
    scope: int = 0
    table: int = 254
    ifindex: int = 0
    gateway: IPv4Address | IPv6Address | None = None
    prefsrc: IPv4Address | IPv6Address | None = None
    metric: int = 0
    mtu: int = 0
    realm: int = 0


class Facts(NamedTuple):
    """All that a block holds but its generation; equal facts make equal blocks."""

    interfaces: tuple[Interface, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    sysctls: tuple[int, ...] = tuple(SYSCTLS.values())


def ordered(facts: Facts) -> Facts:
    """In the block's order: interfaces by index, addresses by (family, address), routes in order of lookup."""
    return facts._replace(interfaces=tuple(sorted(facts.interfaces)), routes=tuple(sorted(facts.routes, key=route_order)),
                          addresses=tuple(sorted(facts.addresses, key=lambda a: (a.family, a.address.packed, a.ifindex))))


def pack(facts: Facts, generation: int) -> bytes:
    """The block of facts that are `ordered`."""
    sections = [list(map(_interface, facts.interfaces)), list(map(_address, facts.addresses)), list(map(_route, facts.routes))]
    offset, places, body = HEADER.size, [], b""
    for section in sections:
        data = b"".join(section)
        data += b"\0" * (-len(data) % ALIGNMENT)
        places += [len(section), offset]
        offset += len(data)
        body += data
    return HEADER.pack(HOST_MAGIC, offset, generation, *places, *facts.sysctls) + body


def route_order(route: Route) -> tuple:
    """Longest prefix first, the local table before the others (the kernel asks it first), then the smallest metric."""
    return route.family, -route.prefix, route.table != TABLE_LOCAL, route.metric


def _interface(item: Interface) -> bytes:
    name = item.name.encode("utf-8", "surrogateescape")
    return INTERFACE.pack(item.index, item.flags, name[:15], item.mtu, item.group, item.master, item.type, 0)


def _address(item: Address) -> bytes:
    broadcast = broadcast_of(item)
    return ADDRESS.pack(item.ifindex, item.family, item.prefix, item.flags & 0xFFFF, item.scope, item.address.packed,
                        broadcast.packed if broadcast else b"", item.order)


def broadcast_of(item: Address) -> IPv4Address | None:
    """The address's broadcast; where none was set, the last of its subnet, which the kernel then takes for one (not /31, /32)."""
    if item.family == IPV6 or item.broadcast or item.prefix > 30:
        return item.broadcast
    return ip_network((item.address, item.prefix), strict=False).broadcast_address


def _route(item: Route) -> bytes:
    source = item.prefsrc.packed if item.prefsrc and item.family == IPV4 else b"\0\0\0\0"
    return ROUTE.pack(item.family, item.prefix, item.type, item.scope, item.table, item.ifindex, item.destination.packed,
                      item.gateway.packed if item.gateway else b"", int.from_bytes(source, "little"), item.metric, item.mtu,
                      item.realm, 0)
