"""Lab: builds a topology and takes it down.  See the package's docstring for the picture and the life-cycle."""

import itertools
import json
import os
import time
from pathlib import Path

from netns import _linux
from netns.host import Host, Interface, ip_batch
from netns.processes import Processes
from netns.topology import DEFAULT, Link, Route, Topology

UP_SECONDS = 10                 # a link comes up within milliseconds; a loaded machine may take longer
RUN_NETNS = Path("/run/netns")
SYSCTLS = {                     # of every host; later ones may need earlier ones
    "net.ipv4.ip_forward": 1,
    "net.ipv6.conf.all.forwarding": 1,
    "net.ipv6.conf.default.accept_dad": 0,              # addresses are usable at once
    "net.ipv6.conf.default.accept_ra": 0,
    "net.ipv6.conf.default.router_solicitations": 0,    # no packets nobody sent
    "net.ipv4.ping_group_range": "0 0",
}
_counter = itertools.count()


class Lab:
    """Hosts by name: lab.host("client"), or lab.client.  A context manager; `close` ends processes and namespaces.

    keep=True names the namespaces <prefix>-client … under /run/netns; they stay after close, their processes do not.
    """

    def __init__(self, topology: Topology = DEFAULT, *, keep: bool = False, prefix: str | None = None):
        self.prefix = prefix or f"lab{os.getpid()}-{next(_counter)}"
        self.keep = keep
        self.hosts: dict[str, Host] = {}
        self._namespaces = []
        self._links = itertools.count(1)
        self._processes = Processes()
        try:
            self._build(topology)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __getattr__(self, name: str) -> Host:
        hosts = self.__dict__.get("hosts", {})
        if name in hosts:
            return hosts[name]
        raise AttributeError(f"this lab has no host {name!r}")

    def host(self, name: str) -> Host:
        return self.hosts[name]

    # ---- building -----------------------------------------------------------------------------------------------------

    def _build(self, topology: Topology) -> None:
        for name in topology.hosts:
            self.add_host(name, topology.sysctls)
        self.connect(topology.links, topology.routes)

    def add_host(self, name: str, sysctls=()) -> Host:
        """A host without links, lo up."""
        namespaces = self._processes.new_namespaces()
        self._namespaces.append(namespaces)
        host = self.hosts[name] = Host(name, namespaces, self._processes)
        if self.keep:
            _bind_name(namespaces.net, f"{self.prefix}-{name}")
        for key, value in (SYSCTLS | dict(sysctls)).items():
            host.set_sysctl(key, value)
        return host

    def connect(self, links=(), routes=()) -> None:
        """Add links and routes: one `ip` run per host.  A host's links get its next free eth names in order."""
        commands: dict[str, list[str]] = {name: ["link set lo up"] for name in self.hosts}
        for link in links:
            self._plan_link(link, commands)
        for route in routes:
            commands[route.host].append(_route(route))
        descriptors = [host.net_fd for host in self.hosts.values()]
        for name, lines in commands.items():            # pairs are made by their first host: order them before the addresses
            first = [line for line in lines if line.startswith("link add")]
            if first:
                ip_batch(self.hosts[name], first, descriptors)
        for name, lines in commands.items():
            ip_batch(self.hosts[name], [line for line in lines if not line.startswith("link add")])
        for host in self.hosts.values():
            _wait_up(host)

    def _plan_link(self, link: Link, commands: dict[str, list[str]]) -> None:
        number = next(self._links)
        ends = [self.hosts[link.first], self.hosts[link.second]]
        own = []
        for end, host in enumerate(ends):
            interface = Interface(f"eth{len(host.interfaces)}", f"02:00:00:{number >> 8:02x}:{number & 255:02x}:{end + 1:02x}",
                                  link.addresses(end), ends[1 - end].name)
            host.interfaces[interface.name] = interface
            own.append(interface)
        commands[link.first].append(
            f"link add {own[0].name} mtu {link.mtu} address {own[0].mac} type veth peer name {own[1].name} mtu {link.mtu} "
            f"address {own[1].mac} netns /proc/self/fd/{ends[1].net_fd}")
        for end, host in enumerate(ends):
            commands[host.name].extend(_interface(own[end], own[1 - end]))

    # ---- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End all processes, let the namespaces go (unless kept).  Safe to call twice."""
        self._processes.close()
        while self._namespaces:
            self._namespaces.pop().close()


def _wait_up(host: Host) -> None:
    """Until the kernel's link watcher has run for every link: before that a packet may be dropped where it is sent."""
    deadline = time.monotonic() + UP_SECONDS
    while host.interfaces:
        links = json.loads(host.run(["ip", "-j", "link", "show"], check=True).stdout)
        waiting = [link["ifname"] for link in links if link["ifname"] in host.interfaces and link["operstate"] != "UP"]
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"{', '.join(waiting)} of {host.name} did not come up within {UP_SECONDS} seconds")
        time.sleep(0.002)


def _interface(own: Interface, peer: Interface) -> list[str]:
    """Addresses without duplicate detection and fixed neighbours, so that no ARP or NDP mixes with a test's packets."""
    lines = [f"link set {own.name} up"]
    lines += [f"address add {address} dev {own.name}{' nodad' * (address.version == 6)}" for address in own.addresses]
    lines += [f"neighbour add {address.ip} lladdr {peer.mac} dev {own.name} nud permanent" for address in peer.addresses]
    return lines


def _route(route: Route) -> str:
    destination = route.destination
    if destination == "default":                        # in a batch `ip` takes the family from the destination alone
        destination = "::/0" if ":" in route.gateway else "0.0.0.0/0"
    return f"route add {destination} via {route.gateway}"


def _bind_name(descriptor: int, name: str) -> None:
    RUN_NETNS.mkdir(parents=True, exist_ok=True)
    target = RUN_NETNS / name
    target.touch(exist_ok=False)
    _linux.mount(f"/proc/self/fd/{descriptor}", str(target), "none", _linux.MS_BIND)
