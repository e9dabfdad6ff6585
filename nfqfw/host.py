"""Host: what the kernel knows and rules ask: interfaces, addresses, routes, a few sysctls.

Three makers, one value: `Host.live()` reads the namespace of the calling thread by rtnetlink and follows its changes;
`Host.snapshot(path)` reads a file (format: `_hostjson.py`); `Host.offline(…)` is written by hand, for tests.  The last two
need no root and import no netlink.

`block` is the flat form for the data path (`_host.pxd`): immutable bytes, replaced as a whole, generation counting up.
`on_change(host)` is called in the watching thread after each replacement; hand the new block to the engines there.
"""

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

from nfqfw import _hostjson
from nfqfw._hostblock import IFF_LOOPBACK, IPV4, IPV6, SYSCTLS, Address, Facts, Interface, Route, ordered, pack
from nfqfw.limits import PAYLOAD_BYTES

LOOPBACK = Interface(1, "lo", 0x10049, 65536, 0, 0, 772)        # UP LOOPBACK RUNNING LOWER_UP, ARPHRD_LOOPBACK
ETHERNET_FLAGS = 0x11043        # UP BROADCAST RUNNING MULTICAST LOWER_UP
DEFAULT_MTU = 1500              # bytes


class Host:
    """Facts and their block.  Reading is safe from any thread: both are replaced, never changed."""

    def __init__(self, facts: Facts, on_change: Callable[["Host"], None] | None = None):
        self.on_change = on_change
        self.generation = 0
        self._watcher = None
        self._lock = threading.Lock()
        self._take(ordered(facts))

    @classmethod
    def live(cls, on_change: Callable[["Host"], None] | None = None,
             on_loss: Callable[[list[tuple[int, bytes | None]]], None] | None = None) -> "Host":
        """The namespace of the calling thread, followed until `close`.  Raises OSError.

        on_loss gets [(ifindex, address), …] of what went away, also if it came back at once: the address as 4 or 16 bytes, or None when
        the whole interface went down.
        """
        from nfqfw import _rtnetlink                    # late: the offline path imports no netlink

        def changed(losses: list) -> None:
            try:
                host.refresh()
            except OSError:
                pass                                    # the kernel was busy changing: the next round reads it
            if losses and on_loss:
                on_loss(losses)

        watcher = _rtnetlink.Watcher(changed)           # before the first reading: nothing falls between
        host = cls(_rtnetlink.read(), on_change)
        host._watcher = watcher
        watcher.start()
        return host

    @classmethod
    def snapshot(cls, path: str | Path) -> "Host":
        """A file of `ip -j` output.  Raises NfqfwError."""
        return cls(_hostjson.load(path))

    @classmethod
    def offline(cls, interfaces: Mapping[str, Iterable[str] | Mapping], routes: Iterable[str | Route] = (),
                sysctls: Mapping[str, int] | None = None) -> "Host":
        """By hand: Host.offline({"eth0": ["10.0.1.1/24", "fd00:1::1/64"]}, ["default via 10.0.1.254"]).

        Interfaces get the indexes 2, 3 … in order (lo is 1, with 127.0.0.1 and ::1) and their subnets' routes.  Instead of a list of
        addresses a dict may say more: {"addresses": [...], "index": 7, "mtu": 1400, "group": 3, "master": 4, "flags": 0x1003}.
        A route is "DESTINATION [via GATEWAY] [dev NAME]" or a Route.  Raises ValueError.
        """
        links, addresses = [LOOPBACK], [_address(1, "127.0.0.1/8", 0), _address(1, "::1/128", 0)]
        for position, (name, given) in enumerate(interfaces.items()):
            facts = dict(given) if isinstance(given, Mapping) else {"addresses": given}
            texts = list(facts.pop("addresses", ()))
            link = Interface(**{"index": position + 2, "name": name, "flags": ETHERNET_FLAGS} | facts)
            links.append(link)
            for own in ([text for text in texts if ":" not in text], [text for text in texts if ":" in text]):
                addresses += [_address(link.index, text, order) for order, text in enumerate(own)]
        known = _hostjson.connected(addresses)
        more = tuple(route if isinstance(route, Route) else _route(route, known, links) for route in routes)
        values = SYSCTLS | dict(sysctls or {})
        if unknown := values.keys() - SYSCTLS.keys():
            raise ValueError(f"no such sysctl in a Host: {', '.join(sorted(unknown))}")
        return cls(Facts(tuple(links), tuple(addresses), known + more, tuple(values.values())))

    # ---- questions ----------------------------------------------------------------------------------------------------

    @property
    def block(self) -> bytes:
        """The present Host block."""
        return self._block

    @property
    def facts(self) -> Facts:
        return self._facts

    def name(self, index: int) -> str | None:
        """Name of an interface, None if there is none of this index."""
        return self._names.get(index)

    def index(self, name: str) -> int | None:
        """ifindex of an interface by name, None if there is none."""
        return self._indexes.get(name)

    def largest_mtu(self) -> int:
        """Bytes: what a copy range must be for every packet of a link to come whole.

        lo does not count: its 65,536 bytes would have the kernel copy every offloaded super-packet whole, and its packets need no
        checksum test.  At most what a netlink attribute holds.
        """
        links = (link.mtu for link in self._facts.interfaces if not link.flags & IFF_LOOPBACK)
        return min(max(links, default=DEFAULT_MTU), PAYLOAD_BYTES)

    def save(self, path: str | Path) -> None:
        """Write a snapshot file that `Host.snapshot` reads back to equal facts."""
        Path(path).write_text(json.dumps(_hostjson.document_of(self._facts), indent=1) + "\n")

    # ---- changes ------------------------------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Read the kernel now; True if anything differed.  Live hosts only, and only in the thread's own namespace."""
        from nfqfw import _rtnetlink

        with self._lock:
            facts = ordered(_rtnetlink.read())
            if facts == self._facts:
                return False
            self._take(facts)
        if self.on_change:
            self.on_change(self)
        return True

    def _take(self, facts: Facts) -> None:
        self.generation += 1
        self._block = pack(facts, self.generation)
        self._names = {link.index: link.name for link in facts.interfaces}
        self._indexes = {link.name: link.index for link in facts.interfaces}
        self._facts = facts

    def close(self) -> None:
        """Stop following the kernel.  The facts stay."""
        watcher, self._watcher = self._watcher, None
        if watcher:
            watcher.close()

    def __enter__(self) -> "Host":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _address(index: int, text: str, order: int) -> Address:
    given = ip_interface(text)
    scope = 254 if given.ip.is_loopback else 253 if given.ip.is_link_local else 0
    return Address(index, given.ip, given.network.prefixlen, None, 0x80, scope, order)


def _route(text: str, known: tuple[Route, ...], links: list[Interface]) -> Route:
    """ "DESTINATION [via GATEWAY] [dev NAME]"; without dev, the interface through which the gateway is reached."""
    destination, *words = text.split()
    options = dict(zip(words[::2], words[1::2]))
    if len(words) % 2 or options.keys() - {"via", "dev"} or not options:
        raise ValueError(f"not a route: {text!r}")
    gateway = ip_address(options["via"]) if "via" in options else None
    if destination == "default":
        destination = "::/0" if gateway and gateway.version == 6 else "0.0.0.0/0"
    network = ip_network(destination)
    family = IPV4 if network.version == 4 else IPV6
    if "dev" in options:
        index = next((link.index for link in links if link.name == options["dev"]), None)
    else:
        index = next((r.ifindex for r in known if r.family == family and r.type == 1
                      and gateway in ip_network((r.destination, r.prefix))), None)
    if index is None:
        raise ValueError(f"route {text!r}: no such interface, or no interface with the gateway's subnet")
    return Route(family, network.network_address, network.prefixlen, 1, 0 if gateway else 253, 254, index, gateway)
