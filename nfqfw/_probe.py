"""What the kernel can do, found by doing it: in a throw-away network namespace, in a child process, with one packet."""

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
from dataclasses import asdict, dataclass
from pathlib import Path

from nfqfw import _nfnetlink as nft
from nfqfw import attach
from nfqfw._netlink import NLM_F_ACK, NetlinkSocket, attribute, attributes, split
from nfqfw.errors import NfqfwError

CLONE_NEWNET = 0x40000000
PROBE_SECONDS = 5               # a child that has not answered by then is killed
PACKET_SECONDS = 1
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
QUEUE_SUBSYSTEM = 3             # NFNL_SUBSYS_QUEUE; messages packet, verdict, config
COUNT_FILE = Path("/proc/sys/net/netfilter/nf_conntrack_count")


@dataclass
class Kernel:
    """What worked.  `not_tried` says why there was no namespace to try in."""

    not_tried: str = ""
    nf_tables: bool = False
    target: bool = False        # xt NFQUEUE through nft_compat
    expression: bool = False    # nft's `queue`
    queue: bool = False         # a queue could be bound
    packet: bool = False        # one packet went through all of it


def try_kernel() -> Kernel:
    """Never raises for what the kernel lacks."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(writer)
    os.close(writer)
    try:
        answer = b""
        while select.select([reader], [], [], PROBE_SECONDS)[0] and (part := os.read(reader, 4096)):
            answer += part
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    try:
        return Kernel(**json.loads(answer))
    except ValueError:
        return Kernel(not_tried="the probing process gave no answer")


def _answer(writer: int) -> None:
    """The child: answers and ends, whatever happens."""
    try:
        os.write(writer, json.dumps(asdict(_in_new_namespace())).encode())
    finally:
        os._exit(0)


def _in_new_namespace() -> Kernel:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        return Kernel(not_tried=f"no network namespace of our own: {os.strerror(ctypes.get_errno())}")
    found = Kernel()
    for field, step in (("nf_tables", _tables), ("target", _target), ("expression", _expression), ("queue", _queue), ("packet", _packet)):
        try:
            step()
            setattr(found, field, True)
        except (OSError, NfqfwError):
            pass
    return found


def _tables() -> None:
    attach.attach([]).detach()


def _target() -> None:
    _rule(nft.xt_nfqueue(0, 1))


def _expression() -> None:
    _rule(nft.nft_queue(0, 1))


def _rule(expression: bytes) -> None:
    with NetlinkSocket(nft.NETLINK_NETFILTER) as kernel:
        nft.commit(kernel, [nft.new_table("probe"), nft.new_base_chain("probe", "c", 3, 0), nft.new_rule("probe", "c", expression)])
        nft.commit(kernel, [nft.delete_table("probe")])


def _bind(kernel: NetlinkSocket) -> None:
    for content in (attribute(1, struct.pack(">BBH", 1, 0, 0)), attribute(2, struct.pack(">IB", 0xFFFF, 2))):
        kernel.batch([(QUEUE_SUBSYSTEM << 8 | 2, NLM_F_ACK, struct.pack(">BBH", 0, 0, 0) + content)])


def _queue() -> None:
    with NetlinkSocket(nft.NETLINK_NETFILTER) as kernel:
        _bind(kernel)


def _packet() -> None:
    """A datagram over lo, queued at OUTPUT, accepted, received."""
    _raise_lo()
    with NetlinkSocket(nft.NETLINK_NETFILTER) as kernel, _datagram_socket() as own:
        _bind(kernel)
        with attach.attach(["OUTPUT"]):
            own.sendto(b"x", own.getsockname())
            kernel.socket.settimeout(PACKET_SECONDS)
            for kind, _, _, body in split(kernel.socket.recv(1 << 17)):
                if kind == QUEUE_SUBSYSTEM << 8:
                    number = dict(attributes(body, 4))[1][:4]
                    accept = attribute(2, struct.pack(">I", 1) + number)
                    kernel.send([(QUEUE_SUBSYSTEM << 8 | 1, 0, struct.pack(">BBH", 0, 0, 0) + accept)])
            own.recv(1)


def _raise_lo() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = struct.unpack_from("=16sh", fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("=16sh14x", b"lo", 0)))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("=16sh14x", b"lo", flags | IFF_UP))


def _datagram_socket() -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.settimeout(PACKET_SECONDS)
    opened.bind(("127.0.0.1", 0))
    return opened


def conntrack_is_active() -> bool:
    """Whether the kernel tracks connections in this namespace: it has entries, or makes one for a datagram to ourselves."""
    if _count() > 0:
        return True
    try:
        with _datagram_socket() as own:
            own.sendto(b"x", own.getsockname())
            own.recv(1)
    except OSError:
        pass                                            # lo is down or filtered: the count is all there is
    return _count() > 0


def _count() -> int:
    try:
        return int(COUNT_FILE.read_text())
    except (OSError, ValueError):
        return 0
