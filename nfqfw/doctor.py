"""Can this host run nfqfw, and what is in its way: a list of checks, each with a status, a sentence and a fix of one line.

    for check in examine(): print(check.status, check.name, check.message, check.fix)

`fail` means that `nfqfw run` cannot work, `warn` that it works with a loss or a risk.  Nothing outside our own throw-away
network namespace is changed; the conntrack check sends one datagram to itself over 127.0.0.1.
"""

import errno
import importlib.util
import os
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from nfqfw import _nfnetlink as nft
from nfqfw import _probe, attach
from nfqfw._netlink import NetlinkError, NetlinkSocket
from nfqfw.errors import NfqfwError
from nfqfw.host import Host
from nfqfw.limits import PAYLOAD_BYTES, RECEIVE_BUFFER_BYTES

OK, WARN, FAIL = "ok", "warn", "fail"
CAPABILITIES = (                # name, bit, what needs it
    ("CAP_NET_ADMIN", 12, FAIL, "to bind queues, give verdicts and attach"),
    ("CAP_NET_RAW", 13, WARN, "to send the replies of REJECT"),
)
# Programs that delete and re-create nftables tables when they reload (comm, as the kernel cuts it to 15 bytes).
REBUILDERS = {"firewalld", "dockerd", "kube-proxy", "ufw", "libvirtd", "virtnetworkd", "fail2ban-server", "crowdsec-firewa", "podman",
              "netavark", "containerd", "calico-node", "cilium-agent"}
SO_RCVBUFFORCE = 33
FORCED_TO_USER = 2              # the kernel doubles what is asked for (socket(7))


class Check(NamedTuple):
    """One finding.  `fix` is one line, empty when the status is ok."""

    name: str
    status: str
    message: str
    fix: str = ""


def examine(queue: int = 0, queues: int = 1) -> list[Check]:
    """All checks for a firewall on these queues in the calling thread's network namespace.  About 50 ms."""
    found = []
    for check in CHECKS:
        try:
            found.extend(check(queue, queues))
        except (OSError, NfqfwError) as error:
            found.append(Check(check.__name__, WARN, f"could not be checked: {error}", getattr(error, "fix", "") or "run as root"))
    return found


def worst(checks: Iterable[Check]) -> str:
    """The gravest status among them."""
    present = {check.status for check in checks}
    return next((status for status in (FAIL, WARN) if status in present), OK)


# ---- the checks: each (queue, queues) -> findings ------------------------------------------------------------------------

def build(queue: int, queues: int) -> list[Check]:
    if importlib.util.find_spec("nfqfw._engine"):
        return [Check("build", OK, "the compiled engine is there")]
    return [Check("build", FAIL, "the compiled engine is missing", "run 'make build', or install a wheel")]


def capabilities(queue: int, queues: int) -> list[Check]:
    status = Path("/proc/thread-self/status").read_text()
    effective = int(status.split("CapEff:")[1].split()[0], 16)
    return [
        Check(name, OK, purpose) if effective >> bit & 1 else
        Check(name, gravity, f"missing; needed {purpose}", f"run as root, or give the process {name}")
        for name, bit, gravity, purpose in CAPABILITIES
    ]


def kernel(queue: int, queues: int) -> list[Check]:
    """A throw-away namespace: our table, one queue, one packet through it."""
    seen = _probe.try_kernel()
    if seen.not_tried:
        return [Check("kernel", WARN, f"could not be tried: {seen.not_tried}", "run as root (CAP_SYS_ADMIN) to test the kernel's support")]
    rows = (
        ("nf_tables", seen.nf_tables, "tables of family inet", "use a kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET"),
        ("NFQUEUE", seen.queue, "queues for user space", "use a kernel with CONFIG_NETFILTER_NETLINK_QUEUE (module nfnetlink_queue)"),
        ("diversion", seen.target or seen.expression, _expression_words(seen),
         "load the modules nft_compat and xt_NFQUEUE, or nft_queue"),
        ("packet path", seen.packet, "a packet came through table, queue and verdict", "see the lines above; other rules may drop it"),
    )
    return [Check(name, OK, words) if good else Check(name, FAIL, f"not in this kernel: {words}", fix) for name, good, words, fix in rows]


def _expression_words(seen: "_probe.Kernel") -> str:
    ways = [name for name, there in (("xt NFQUEUE through nft_compat", seen.target), ("nft 'queue'", seen.expression)) if there]
    return ", ".join(ways) or "xt NFQUEUE through nft_compat, nft 'queue'"


def queue_owners(queue: int, queues: int) -> list[Check]:
    """Who has our queues, and whether a killed run left its table with nobody behind it."""
    owners = attach.queue_owners()
    wanted = range(queue, queue + queues)
    taken = [owners[number] for number in wanted if number in owners]
    found = attach.find()
    hooks = found.hooks if found else frozenset()
    behind = range(found.queue, found.queue + found.queues) if hooks else range(0)
    if found:
        found.close()
    if behind and not all(number in owners for number in behind):
        return [Check("queues", FAIL, f"a killed nfqfw left its table: all packets at {', '.join(sorted(hooks))} are dropped",
                      "'nfqfw run RULES' takes over, 'nfqfw down' removes the table")]
    if behind and taken and set(wanted) & set(behind):
        return [Check("queues", OK, f"nfqfw runs here on queue {behind[0]}" + (f" to {behind[-1]}" if len(behind) > 1 else ""))]
    if taken:
        names = ", ".join(f"{owner.queue} by {_program(owner.portid)}" for owner in taken)
        return [Check("queues", FAIL, f"taken: queue {names}", "choose another with --queue, or stop that program")]
    return [Check("queues", OK, f"queue {queue} is free" if queues == 1 else f"queues {queue} to {queue + queues - 1} are free")]


def _program(portid: int) -> str:
    """A netlink port is the process's id unless it has several sockets: then only the number is known."""
    try:
        return f"{Path(f'/proc/{portid}/comm').read_text().strip()} (pid {portid})"
    except OSError:
        return f"the netlink socket with port id {portid}"


def receive_buffer(queue: int, queues: int) -> list[Check]:
    with NetlinkSocket(nft.NETLINK_NETFILTER) as probe:
        try:
            probe.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        except PermissionError:
            probe.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        granted = probe.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // FORCED_TO_USER
    if granted >= RECEIVE_BUFFER_BYTES:
        return [Check("receive buffer", OK, f"{granted >> 20} MiB per queue")]
    return [Check("receive buffer", WARN, f"only {granted >> 10} KiB per queue: packets are lost in a pause of some milliseconds",
                  f"sysctl -w net.core.rmem_max={RECEIVE_BUFFER_BYTES}, or run with CAP_NET_ADMIN of the first user namespace")]


def kernel_conntrack(queue: int, queues: int) -> list[Check]:
    """Seen on 6.18: with kernel tracking on, an ICMP error about a packet whose connection is still new does not come to a queue at
    OUTPUT, it is dropped: it shares that connection, and the kernel queues no packet that shares an unconfirmed one."""
    if not _probe.conntrack_is_active():
        return [Check("kernel conntrack", OK, "not active in this namespace")]
    return [Check("kernel conntrack", WARN, "active in this namespace: connections are tracked twice, the kernel may reassemble and NAT, and drops "
                  "its own ICMP errors about new connections (traceroute) on their way to the queue",
                  "remove rules that use it: nat tables and -m conntrack (iptables), ct and nat (nft)")]


def other_tables(queue: int, queues: int) -> list[Check]:
    with NetlinkSocket(nft.NETLINK_NETFILTER) as probe:
        try:
            chains = nft.base_chains(probe)
        except NetlinkError as error:
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
                return []                               # no nf_tables: the kernel check says so
            raise attach.explain(error) from error
    families = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
    names = sorted({f"{families.get(chain.family, chain.family)} {chain.table}" for chain in chains} - {f"inet {attach.TABLE}"})
    if not names:
        return [Check("other tables", OK, "no other nftables table with base chains")]
    return [Check("other tables", WARN, f"nftables has {', '.join(names)}: whoever deletes such a table drops the packets that wait for nfqfw",
                  "reload them without deleting chains (iptables-restore --noflush, nft flush chain), or remove them")]


def legacy_tables(queue: int, queues: int) -> list[Check]:
    names = [f"{program} {table}" for program, file in (("iptables", "ip_tables_names"), ("ip6tables", "ip6_tables_names"))
             for table in _words(Path("/proc/thread-self/net", file))]
    if not names:
        return [Check("kernel tables", OK, "no iptables-legacy table in the kernel")]
    return [Check("kernel tables", WARN, f"the kernel's own tables are loaded and judge packets too: {', '.join(names)}",
                  "see 'iptables-legacy-save'; flush what nfqfw shall decide alone")]


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def rebuilders(queue: int, queues: int) -> list[Check]:
    """Programs of this network namespace that are known to rebuild tables."""
    own = os.stat("/proc/thread-self/ns/net").st_ino
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            name = (entry / "comm").read_text().strip()
            if name in REBUILDERS and os.stat(entry / "ns/net").st_ino == own:
                found.add(name)
        except OSError:
            continue                                    # ended meanwhile, or not ours to look at
    if not found:
        return [Check("other firewalls", OK, "no known program that rebuilds nftables tables runs here")]
    return [Check("other firewalls", WARN, f"{', '.join(sorted(found))} may rebuild nftables tables: each time, waiting packets are lost",
                  "stop it, or run nfqfw in a network namespace of its own")]


def loopback(queue: int, queues: int) -> list[Check]:
    lo = next((link for link in _links() if link.name == "lo"), None)
    if lo is None or lo.mtu <= PAYLOAD_BYTES:
        return [Check("lo", OK, "its packets fit a queue message")]
    return [Check("lo", WARN, f"MTU {lo.mtu}: packets on lo above {PAYLOAD_BYTES} bytes come cut, so rules cannot rewrite or search them whole",
                  "only if local traffic is filtered: ip link set lo mtu 65500 gso_max_size 65500")]


def _links():
    from nfqfw import _rtnetlink

    return Host(_rtnetlink.read()).facts.interfaces


CHECKS: tuple[Callable[[int, int], list[Check]], ...] = (
    build, capabilities, kernel, queue_owners, receive_buffer, kernel_conntrack, other_tables, legacy_tables, rebuilders, loopback,
)
