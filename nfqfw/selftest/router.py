"""The lab of a live twin: a router namespace between two wires, packets injected and captured by raw sockets.

       wires namespace              router namespace                  wires namespace
        client ---------------- eth0 10.0.1.1  10.0.2.1 eth1 ---------------- server
                                     2001:db8:1::1  2001:db8:2::1

How it is exact and fast:
- Both namespaces are anonymous and live as long as this object: nothing is left behind by any kind of death.
- Injection is AF_PACKET on the far ends; the process is pinned to one CPU, where the kernel handles one packet after the
  other.  Behind each packet goes an ARP request to the router: its answer says that everything the packet caused is out,
  so each emitted frame belongs to a known packet without a wait.
- A base chain at the very last priority of INPUT (behind confirm) logs each delivered packet and drops it, so that the
  router's own sockets and protocol stack answer nothing; one in POSTROUTING logs the mark with which packets leave.  One in
  OUTPUT, before everything, drops what the stack says by itself (neighbour discovery, MLD, IGMP, reassembly time-outs).

What stands in the router is the twin's own: kernel.py, live.py.  Needs root, ip and nft (the oracle's tools; the firewall
itself never calls them).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from nfqfw.selftest.case import Case, Step, first_sent
from nfqfw.selftest.netlink import PacketLog
from nfqfw.selftest.outcome import Emitted, Outcome, generated, normal_packet, trains_joined, with_marks
from nfqfw.selftest.packets import IPV4, IPV6, build, packed

CLONE_NEWNET = 0x40000000
PACKET_IGNORE_OUTGOING, SOL_PACKET = 23, 263
ARP, IPV4_TYPE, IPV6_TYPE = 0x0806, 0x0800, 0x86dd
MAC = {"eth0": "02:00:00:00:01:01", "client": "02:00:00:00:01:02", "eth1": "02:00:00:00:02:01", "server": "02:00:00:00:02:02"}
IP_HDRINCL_V6 = 36
DELIVERED, LEAVING, CLASSED = 7, 8, 9       # nfnetlink_log groups
SENTINEL_SECONDS = 5
UP_SECONDS = 60

SYSCTLS = {
    "net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1,
    "net/ipv4/conf/all/rp_filter": 0, "net/ipv4/conf/default/rp_filter": 0,
    "net/ipv4/conf/all/send_redirects": 0, "net/ipv4/conf/default/send_redirects": 0,
    "net/ipv4/icmp_ratelimit": 0, "net/ipv4/icmp_ratemask": 0, "net/ipv6/icmp/ratelimit": 0,
    "net/ipv6/conf/default/accept_dad": 0, "net/ipv6/conf/default/router_solicitations": 0,
    "net/ipv6/auto_flowlabels": 0, "net/ipv6/conf/default/autoconf": 0,
    "net/ipv4/ipfrag_time": 2, "net/ipv4/ipfrag_max_dist": 0, "net/ipv6/ip6frag_time": 2,
    "net/netfilter/nf_conntrack_frag6_timeout": 2,
}

LAST_WORD = f"""
table inet oracle {{
 chain delivered {{ type filter hook input priority 2147483647; policy accept; log group {DELIVERED} drop; }}
 chain leaving {{ type filter hook postrouting priority 2147483647; policy accept;
  oif lo log prefix "lo" group {LEAVING}
  oif != lo log group {LEAVING}
 }}
 chain quiet {{ type filter hook output priority -1000; policy accept;
  icmpv6 type {{ 130-136, 143 }} drop
  meta l4proto 2 drop
  icmp type time-exceeded icmp code 1 drop
  icmpv6 type time-exceeded icmpv6 code 1 drop
 }}
}}
"""
_libc = ctypes.CDLL(None, use_errno=True)


class OracleUnavailable(RuntimeError):
    """This machine cannot run the kernel's twin; the message says what is missing."""


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _new_namespace() -> int:
    """A descriptor of a new network namespace; the calling thread is in it afterwards."""
    _check(_libc.unshare(CLONE_NEWNET), "unshare")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _enter(namespace: int) -> None:
    _check(_libc.setns(namespace, CLONE_NEWNET), "setns")


def real_tool(name: str) -> str:
    """Absolute path of a real tool: our shims may stand first in PATH."""
    path = shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if not path:
        raise OracleUnavailable(f"{name} is not installed")
    return path


def missing(*tools: str) -> str:
    """Why this machine cannot run a live twin (and these tools besides); empty when it can."""
    if os.geteuid() != 0:
        return "needs root"
    for tool in ("iptables-legacy-restore", "ip6tables-legacy-restore", "nft", "nfct", "ip", *tools):
        if not shutil.which(tool, path="/usr/sbin:/sbin:/usr/bin:/bin"):
            return f"{tool} is not installed"
    return ""


class Router:
    """The router namespace, without a firewall.  A context manager; a twin adds `_build` and `run`."""

    def __init__(self, classes: bool = False) -> None:
        why = missing()
        if why:
            raise OracleUnavailable(why)
        self.classes = classes
        self.salt = 0
        self._changed: dict[str, str] = {}

    # ---- the lab ------------------------------------------------------------------------------------------------

    def __enter__(self):
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.lock = tempfile.NamedTemporaryFile(prefix="nfqfw-oracle-")     # noqa: SIM115: closed in __exit__
        self.environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XTABLES_LOCKFILE": self.lock.name}
        self._cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {sorted(self._cpus)[os.getpid() % len(self._cpus)]})
        try:
            self.wires = _new_namespace()
            _sysctl("net/ipv6/conf/all/disable_ipv6", 1)
            _sysctl("net/ipv6/conf/default/disable_ipv6", 1)
            self.router = _new_namespace()
            self._build()
        finally:
            _enter(self.home)
        return self

    def __exit__(self, *exc: object) -> None:
        for thing in (self.log, self.wire, *self.raw.values(), self.lock):
            thing.close()
        for descriptor in (self.router, self.wires, self.home):
            os.close(descriptor)
        os.sched_setaffinity(0, self._cpus)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread in the router namespace."""
        _enter(self.router)
        try:
            yield
        finally:
            _enter(self.home)

    def _build(self) -> None:
        """Links, addresses, neighbours, sysctls, base chains and sockets; the thread is in the router namespace."""
        for path, value in SYSCTLS.items():
            _sysctl(path, value)
        self._run("ip", "\n".join(self._links()))
        for name in ("eth0", "eth1"):
            _sysctl(f"net/ipv4/conf/{name}/rp_filter", 0)
        self._run("nft", LAST_WORD)
        self.log = PacketLog((DELIVERED, LEAVING, CLASSED))
        self.raw = {IPV4: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
                    IPV6: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)}
        self.raw[IPV6].setsockopt(41, IP_HDRINCL_V6, 1)
        self._wires()

    def _links(self) -> Iterator[str]:
        peer = f"/proc/{os.getpid()}/fd/{self.wires}"
        for router, far in (("eth0", "client"), ("eth1", "server")):
            yield f"link add {router} address {MAC[router]} type veth peer name {far} address {MAC[far]}"
            yield f"link set {far} netns {peer}"
            yield f"link set {router} up"
        yield "link set lo up"
        for i, router, far, host in ((1, "eth0", "client", "a"), (2, "eth1", "server", "b")):
            yield f"addr add 10.0.{i}.1/24 broadcast 10.0.{i}.255 dev {router}"
            yield f"addr add 2001:db8:{i}::1/64 dev {router} nodad"
            yield f"neigh add 10.0.{i}.2 lladdr {MAC[far]} nud permanent dev {router}"
            yield f"neigh add 2001:db8:{i}::2 lladdr {MAC[far]} nud permanent dev {router}"
            yield f"route add 10.{i}.0.0/16 via 10.0.{i}.2"
            yield f"route add 2001:db8:{host}::/64 via 2001:db8:{i}::2"
        yield "route add 192.0.2.0/24 via 10.0.2.2"
        yield "route add 2001:db8:ffff::/64 via 2001:db8:2::2"

    def _wires(self) -> None:
        """Far ends up, and the one socket that sends and hears on both."""
        _enter(self.wires)
        self._run("ip", "link set client up arp off\nlink set server up arp off\n")
        self._until_up("client", "server")
        self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.wire.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.wire.settimeout(SENTINEL_SECONDS)
        _enter(self.router)
        self._until_up("eth0", "eth1")
        mac = {name: bytes.fromhex(text.replace(":", "")) for name, text in MAC.items()}
        self.ether = {"client": mac["eth0"] + mac["client"], "server": mac["eth1"] + mac["server"]}
        self.sentinel = (self.ether["client"] + struct.pack(">HHHBBH", ARP, 1, 0x0800, 6, 4, 1) + mac["client"]
                         + bytes((10, 0, 1, 2)) + b"\0" * 6 + bytes((10, 0, 1, 1)))

    def _until_up(self, *links: str) -> None:
        """A kernel thread tells links that they carry; on a busy machine that takes seconds, and what is sent before is lost."""
        deadline = time.monotonic() + UP_SECONDS
        while time.monotonic() < deadline:
            said = subprocess.run([real_tool("ip"), "-o", "link"], text=True, capture_output=True, check=True).stdout
            states = {line.split(": ")[1].split("@")[0]: " state UP " in line for line in said.splitlines()}
            if all(states[link] for link in links):
                return
            time.sleep(0.05)
        raise OracleUnavailable(f"links do not come up in {UP_SECONDS} s: {', '.join(links)}")

    def _run(self, tool: str, script: str) -> None:
        arguments = [real_tool(tool), *(("-batch", "-") if tool == "ip" else ("-f", "-") if tool == "nft" else ())]
        done = subprocess.run(arguments, input=script, text=True, env=self.environment, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{tool}: {done.stderr.strip()}\n{script}")

    def _settings(self, wanted: dict[str, str]) -> None:
        for name, old in list(self._changed.items()):
            if name not in wanted:
                _sysctl(_setting(name), old)
                del self._changed[name]
        for name, value in wanted.items():
            with open("/proc/sys/" + _setting(name)) as f:
                self._changed.setdefault(name, f.read().strip())
            _sysctl(_setting(name), value)

    def _step(self, case: Case, step: Step, outcome: Outcome) -> None:
        family = case.family
        data = build(step.packet, family)
        if step.point == "local":
            self._send_local(family, step, data)
        else:
            kind = IPV4_TYPE if family == IPV4 else IPV6_TYPE
            self.wire.sendto(self.ether[step.point] + struct.pack(">H", kind) + data, (step.point, 0))
        emitted = self._until_sentinel(family)
        delivered = self.log.drain()
        if self.classes:
            outcome.classes.append(next((prefix.decode() for group, _, prefix, _ in delivered if group == CLASSED), ""))
        frames = trains_joined(emitted, family, first_sent(case.steps, step))
        outcome.steps.append(with_marks(frames, self._marks(delivered)) + self._inputs(delivered, family))

    def _marks(self, delivered: list) -> list[int]:
        """Marks with which packets left the router."""
        return [mark for group, mark, prefix, _ in delivered if group == LEAVING and prefix != b"lo"]

    def _inputs(self, delivered: list, family: int) -> list[Emitted]:
        """Packets that reached the router's own sockets."""
        return [Emitted("input", normal_packet(data, family, generated(data, family)), mark)
                for group, mark, _, data in delivered if group == DELIVERED]

    def _send_local(self, family: int, step: Step, data: bytes) -> None:
        target = step.packet.inner.dst if step.packet.proto == "frag" else step.packet.dst
        end = socket.inet_ntop(socket.AF_INET if family == IPV4 else socket.AF_INET6, packed(target, family))
        try:
            self.raw[family].sendto(data, (end, 0))
        except PermissionError:             # a rule dropped it: the sender is told so
            pass

    def _until_sentinel(self, family: int) -> list[Emitted]:
        """Frames heard until the router has answered the ARP request sent now."""
        self.wire.sendto(self.sentinel, ("client", 0))
        out = []
        while True:
            frame, sender = self.wire.recvfrom(1 << 17)
            kind = frame[12] << 8 | frame[13]
            if kind == ARP:
                return out
            data = frame[14:]
            out.append(Emitted(sender[0], normal_packet(data, family, generated(data, family)), 0))


def _setting(name: str) -> str:
    return "net/netfilter/" + name if name.startswith("nf_") else name.replace(".", "/")


def _sysctl(path: str, value: object) -> None:
    with open("/proc/sys/" + path, "w") as f:
        f.write(str(value))
