"""Live host facts: dumps of interfaces, addresses and routes, and a thread that notices changes.

Numbers and layouts are <linux/rtnetlink.h>, <linux/if_link.h>, <linux/if_addr.h>.  Everything is of the network namespace of
the calling thread.  Left out of the routes: other tables than main, default and local (policy routing), routes for one TOS or
one source, and cached IPv6 clones.
"""

import errno
import os
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from nfqfw._hostblock import IPV4, IPV6, SYSCTLS, Address, Facts, Interface, Route
from nfqfw._netlink import NetlinkSocket, attribute, attributes, reading, split, string

NETLINK_ROUTE = 0
GETLINK, GETADDR, GETROUTE = 18, 22, 26
NEWLINK, DELLINK, DELADDR = 16, 17, 21
IFF_UP = 0x1
GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400      # RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE
IFINFO, IFADDR, RTMSG, NEXTHOP = map(struct.Struct, ("=BxHiII", "=BBBBI", "=BBBBBBBBI", "=HBBi"))
SKIP_STATISTICS = attribute(29, struct.pack("=I", 1 << 3))      # IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS
TABLES = {253, 254, 255}        # default, main, local
CLONED = 0x200                  # RTM_F_CLONED
SETTLE_SECONDS = 0.02           # changes come in bursts: one rebuild for all of them
SETTLE_SHARE = 4                # … but at most a fifth of the time goes into reading: 20,000 routes take 0.4 s
SYSCTL_SECONDS = 2              # the kernel tells nobody of a changed sysctl: they are read this often

_MAKE = {IPV4: IPv4Address, IPV6: IPv6Address}


def read() -> Facts:
    """The facts as they are now.  Raises OSError."""
    with NetlinkSocket(NETLINK_ROUTE) as kernel:
        links = _dump(kernel, GETLINK, IFINFO.pack(0, 0, 0, 0, 0) + SKIP_STATISTICS)
        addresses = _dump(kernel, GETADDR, IFADDR.pack(0, 0, 0, 0, 0))
        routes = [body for family in (IPV4, IPV6) for body in _dump(kernel, GETROUTE, RTMSG.pack(family, *[0] * 8))]
    return facts_of(links, addresses, routes)


def facts_of(links: list[bytes], addresses: list[bytes], routes: list[bytes]) -> Facts:
    """The facts of the bodies of three dumps.  Raises NetlinkError (EBADMSG)."""
    with reading():
        return Facts(tuple(map(_interface, links)), tuple(_addresses(addresses)),
                     tuple(route for body in routes for route in _routes(body)), read_sysctls())


def read_sysctls() -> tuple[int, ...]:
    """The values of SYSCTLS in its order; the kernel's default for what this kernel keeps to itself."""
    return tuple(_sysctl(name, default) for name, default in SYSCTLS.items())


def _sysctl(name: str, default: int) -> int:
    try:
        return int(Path("/proc/sys", *name.split(".")).read_text())
    except (OSError, ValueError):
        return default


def _dump(kernel: NetlinkSocket, kind: int, body: bytes) -> list[bytes]:
    return [content for _, content in kernel.dump(kind, body)]


def _number(values: dict[int, bytes], kind: int, default: int = 0) -> int:
    return struct.unpack("=I", values[kind])[0] if kind in values else default


def _interface(body: bytes) -> Interface:
    _, kind, index, flags, _ = IFINFO.unpack_from(body)
    values = dict(attributes(body, IFINFO.size))
    return Interface(index, string(values[3]), flags, _number(values, 4), _number(values, 27), _number(values, 10), kind)


def _addresses(bodies: list[bytes]) -> Iterator[Address]:
    position: Counter = Counter()
    for body in bodies:
        family, prefix, flags, scope, index = IFADDR.unpack_from(body)
        values = dict(attributes(body, IFADDR.size))
        if family not in _MAKE:
            continue
        local = _MAKE[family](values[2] if 2 in values else values[1])  # with a peer, IFA_ADDRESS is the peer's
        broadcast = IPv4Address(values[4]) if 4 in values else None
        order = position[index, family]
        position[index, family] += 1
        yield Address(index, local, prefix, broadcast, _number(values, 8, flags), scope, order)


def _routes(body: bytes) -> Iterator[Route]:
    """The route, once per next hop."""
    family, prefix, source_prefix, tos, table, _, scope, kind, flags = RTMSG.unpack_from(body)
    values = dict(attributes(body, RTMSG.size))
    table = _number(values, 15, table)
    if family not in _MAKE or table not in TABLES or source_prefix or tos or flags & CLONED:
        return
    make = _MAKE[family]
    metrics = dict(attributes(values.get(8, b"")))
    for ifindex, gateway in _hops(values):
        yield Route(family, make(values[1]) if 1 in values else make(0), prefix, kind, scope, table, ifindex,
                    make(gateway) if gateway else None, make(values[7]) if 7 in values else None,
                    _number(values, 6), _number(metrics, 2), _number(values, 11))


def _hops(values: dict[int, bytes]) -> Iterator[tuple[int, bytes | None]]:
    if 9 not in values:
        yield _number(values, 4), values.get(5)
        return
    data, offset = values[9], 0
    while offset + NEXTHOP.size <= len(data):
        length, _, _, ifindex = NEXTHOP.unpack_from(data, offset)
        if length < NEXTHOP.size:
            return
        yield ifindex, dict(attributes(data[:offset + length], offset + NEXTHOP.size)).get(5)
        offset += length + (-length % 4)


Loss = tuple[int, bytes | None]     # ifindex, and the address that it lost (4 or 16 bytes); None: it went down or away


def losses(datagram: bytes) -> Iterator[Loss]:
    """What the kernel's messages take away: what masqueraded connections depend on.  A message that cannot be read takes nothing."""
    for kind, _, _, body in split(datagram):
        if kind in (NEWLINK, DELLINK) and len(body) >= IFINFO.size:
            _, _, index, flags, _ = IFINFO.unpack_from(body)
            if kind == DELLINK or not flags & IFF_UP:
                yield index, None
        elif kind == DELADDR and len(body) >= IFADDR.size:
            values = dict(attributes(body, IFADDR.size))
            address = values.get(2, values.get(1, b""))         # with a peer, IFA_ADDRESS is the peer's
            if len(address) in (4, 16):
                yield IFADDR.unpack_from(body)[4], address


class Watcher:
    """A thread that calls `changed(losses)` after the kernel told of a change, once per burst, and every SYSCTL_SECONDS.

    Subscribed when the constructor returns: facts read after that miss nothing.
    """

    def __init__(self, changed: Callable[[list[Loss]], None]):
        self._changed = changed
        self._socket = NetlinkSocket(NETLINK_ROUTE, GROUPS)
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="nfqfw-host", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and wait for it.  Not from within `changed`."""
        os.eventfd_write(self._stop, 1)
        if self._thread.ident:
            self._thread.join()
        self._socket.close()
        os.close(self._stop)

    def _run(self) -> None:
        ready = select.poll()
        for descriptor in (self._socket.socket, self._stop):
            ready.register(descriptor, select.POLLIN)
        stop = select.poll()
        stop.register(self._stop, select.POLLIN)
        settle = SETTLE_SECONDS
        while True:
            ready.poll(SYSCTL_SECONDS * 1000)
            if stop.poll(settle * 1000):
                return
            start = time.monotonic()
            self._changed(self._read())
            settle = max(SETTLE_SECONDS, SETTLE_SHARE * (time.monotonic() - start))

    def _read(self) -> list[Loss]:
        """Read all that came.  The facts are read anew in any case; after lost messages (ENOBUFS) some losses stay unknown."""
        found: list[Loss] = []
        while True:
            try:
                found.extend(losses(self._socket.socket.recv(1 << 16, socket.MSG_DONTWAIT)))
            except BlockingIOError:
                return list(dict.fromkeys(found))
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
