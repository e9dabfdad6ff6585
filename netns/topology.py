"""Topologies as data: hosts, links and routes; `Lab` builds them with one `ip -batch` per host.

    ROUTERS = Topology(
        hosts=("a", "r1", "r2", "b"),
        links=(Link("r1", "a", "10.0.1.0/24", "fd00:1::/64"), Link("r1", "r2", "10.0.9.0/30", mtu=1400),
               Link("r2", "b", "10.0.2.0/24")),
        routes=(Route("a", "default", "10.0.1.1"), Route("b", "default", "10.0.2.1"), ...))
    with Lab(ROUTERS) as lab: ...

The first host of a link has the first address of its networks and the second host the second: put the router first.
Interfaces are named eth0, eth1 … in the order in which a host's links are given.
"""

from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network


@dataclass(frozen=True)
class Link:
    """A veth pair between two hosts.  A network of None leaves that family without address."""

    first: str
    second: str
    network4: str | None = None
    network6: str | None = None
    mtu: int = 1500             # bytes, both ends

    def addresses(self, end: int) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """The addresses of end 0 (first) or 1 (second), IPv4 before IPv6."""
        networks = (ip_network(text) for text in (self.network4, self.network6) if text)
        return tuple(ip_interface(f"{network[1 + end]}/{network.prefixlen}") for network in networks)


@dataclass(frozen=True)
class Route:
    """`ip route add destination via gateway` on `host`; the family is the gateway's, "default" included."""

    host: str
    destination: str
    gateway: str


@dataclass(frozen=True)
class Topology:
    hosts: tuple[str, ...]
    links: tuple[Link, ...] = ()
    routes: tuple[Route, ...] = ()
    sysctls: dict[str, int] = field(default_factory=dict)   # for every host, over the lab's own


DEFAULT = Topology(
    hosts=("client", "firewall", "server"),
    links=(Link("firewall", "client", "10.0.1.0/24", "fd00:1::/64"),
           Link("firewall", "server", "10.0.2.0/24", "fd00:2::/64")),
    routes=(Route("client", "default", "10.0.1.1"), Route("client", "default", "fd00:1::1"),
            Route("server", "default", "10.0.2.1"), Route("server", "default", "fd00:2::1")),
)
