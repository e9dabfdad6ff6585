"""The NetfilterQueue package (PyPI, 1.1) as transport: same engine, same interface as our own Queue, with its limits.

Its price, measured in bench/: about twice the CPU per packet, no super-packets, and it needs the GIL for every packet.
Its limits, none of which is passed over in silence (`limits` says them before, `statistics` counts them):

- Of a packet longer than 3,840 bytes it delivers only that much, without saying so; the IP header tells.  Such a packet
  is judged as a cut one: what needs no more bytes holds, a rule that must rewrite it drops it as `truncated`.
  (The package names 4,016, its buffer less 80 bytes of attributes.  There can be more of them, time stamps for one, which
  any program of the host switches on for all: the message is then cut, not understood, and its packet waits for ever.)
- Verdicts carry no priority (CLASSIFY) and cannot hand a packet to another queue: counted, the latter dropped.
- No owner of the sending socket (`-m owner` does not match).
- The kernel cuts super-packets into segments before it queues them.

The package is imported only when a queue is opened.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time

from nfqfw.errors import NfqfwError
from nfqfw.limits import BATCH_PACKETS, NETFILTERQUEUE_BYTES, QUEUE_LENGTH, RECEIVE_BUFFER_BYTES
from nfqfw.queue._feed import Decision, Feed, Reply
from nfqfw.queue._nfnetlink import queue_owner

DROP, ACCEPT, HELD, QUEUE, REPEAT = range(5)
IPV4, IPV6 = 2, 10
IDLE_MS = 1000
IP_PKTINFO = 8                  # linux/in.h; the socket module has it from Python 3.12
IPV6_PKTINFO_INDEX = struct.Struct("@16sI")
IP_PKTINFO_INDEX = struct.Struct("@I8x")


def limits(largest_mtu: int) -> list[str]:
    """What a user of this transport should know on a host whose largest interface MTU is this, one line each."""
    lines = ["the netfilterqueue transport takes no super-packets: bulk TCP is many times slower than with nfnetlink"]
    if largest_mtu > NETFILTERQUEUE_BYTES:
        lines.append(f"an interface has MTU {largest_mtu}: the netfilterqueue transport delivers only the first "
                     f"{NETFILTERQUEUE_BYTES} bytes of a packet; longer ones that a rule rewrites are dropped (truncated)")
    return lines


def claimed_length(data: bytes) -> int:
    """Length that the IP header claims, 0 = it has none."""
    version = data[0] >> 4 if data else 0
    if version == 4 and len(data) >= 20:
        return int.from_bytes(data[2:4])
    if version == 6 and len(data) >= 40:
        return 40 + int.from_bytes(data[4:6])
    return 0


class Queue:
    """One queue of the namespace in which `open` is called; interface and meaning as nfqfw.queue._nfnetlink.Queue."""

    def __init__(self, number: int, *, index: int = 0, copy_range: int = NETFILTERQUEUE_BYTES,
                 length: int = QUEUE_LENGTH, receive_buffer: int = RECEIVE_BUFFER_BYTES):
        self.number = number
        self.epoch = 0
        self.blocked = True
        self._index = index
        self._length = length
        self._receive_buffer = receive_buffer
        self._nfq = None
        self._feed: Feed | None = None
        self._batch: list = []
        self._held: dict[int, object] = {}
        self._expected = 1
        self._stop = False
        self._event = -1
        self._raw: dict[int, socket.socket] = {}
        self._count = dict.fromkeys((
            "packets", "bytes", "batches", "polls", "accepted", "dropped", "queued", "held", "released", "rewritten",
            "user_dropped", "cut", "reject_sent", "reject_failed", "reject_send_full", "priority_lost"), 0)
        self._errors: dict[str, int] = {}
        self._reasons: dict[str, int] = {}

    # ---- life-cycle ---------------------------------------------------------------------------------------------------

    def open(self) -> None:
        try:
            from netfilterqueue import NetfilterQueue
        except ImportError as error:
            raise NfqfwError("the NetfilterQueue package is not installed", "pip install 'nfqfw[netfilterqueue]'") from error
        owner = queue_owner(self.number)
        nfq = NetfilterQueue()
        try:
            nfq.bind(self.number, self._take, max_len=self._length, range=NETFILTERQUEUE_BYTES,
                     sock_len=self._receive_buffer)
        except OSError as error:
            if owner is not None:
                raise NfqfwError(f"queue {self.number} is owned by another process (netlink port {owner})",
                                 "stop that process or choose another queue with --queue") from error
            raise NfqfwError(f"queue {self.number}: {error}", "run as root, or with CAP_NET_ADMIN") from error
        self._nfq = nfq
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        for family, kind in ((IPV4, socket.AF_INET), (IPV6, socket.AF_INET6)):
            try:
                self._raw[family] = socket.socket(kind, socket.SOCK_RAW, socket.IPPROTO_RAW)
            except OSError:
                pass                                    # replies of that family are counted as failed

    def use(self, engine) -> None:
        self._feed = Feed(engine)

    def run(self) -> None:
        """The loop, until `stop`: read empty, judge, answer; when nothing more comes of it, sleep."""
        poll = select.poll()
        poll.register(self._nfq.get_fd(), select.POLLIN)
        poll.register(self._event, select.POLLIN)
        while not self._stop:
            before = self._count["packets"]
            self.blocked = False
            self._read()
            self._judge()
            if self._count["packets"] == before:
                self._perform(self._feed.idle(time.monotonic_ns()))
                self.epoch += 1
                self._count["polls"] += 1
                self.blocked = True
                self._sleep(poll)
        self.blocked = True

    def _read(self) -> None:
        try:
            self._nfq.run(block=False)                  # calls _take for every packet
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "OSError")
            self._errors[name] = self._errors.get(name, 0) + 1

    def _sleep(self, poll) -> None:
        for descriptor, _ in poll.poll(IDLE_MS):
            if descriptor == self._event:
                os.eventfd_read(self._event)

    def stop(self) -> None:
        self._stop = True
        self.wake()

    def wake(self) -> None:
        if self._event >= 0:
            os.eventfd_write(self._event, 1)

    def close(self) -> None:
        if self._nfq is not None:
            self._batch.clear()
            self._held.clear()
            self._nfq.unbind()
            self._nfq = None                            # its descriptor closes with it
            os.close(self._event)
            self._event = -1
            for raw in self._raw.values():
                raw.close()
            self._raw.clear()

    # ---- packets ------------------------------------------------------------------------------------------------------

    def _take(self, packet) -> None:
        """Callback of the package: into the batch; a full batch is judged at once."""
        data = packet.get_payload()
        total = len(data)
        if total >= NETFILTERQUEUE_BYTES and claimed_length(data) > total:
            total = claimed_length(data)
            self._count["cut"] += 1
        self._count["packets"] += 1
        self._count["bytes"] += total
        self._count["user_dropped"] += (packet.id - self._expected) & 0xFFFFFFFF
        self._expected = packet.id + 1 & 0xFFFFFFFF
        self._feed.add(data, packet.hook, id=packet.id, total=total, ifin=packet.indev, ifout=packet.outdev,
                       physin=packet.physindev, physout=packet.physoutdev, mark=packet.get_mark(),
                       hwaddr=(packet.get_hw() or b"")[:6], queue=self._index)
        self._batch.append(packet)
        if len(self._batch) >= BATCH_PACKETS:
            self._judge()

    def _judge(self) -> None:
        if self._batch:
            batch, self._batch = self._batch, []
            self._held.update((packet.id, packet) for packet in batch)
            self._count["batches"] += 1
            self._perform(self._feed.run(time.monotonic_ns(), time.time_ns()), fresh={packet.id for packet in batch})
            self.epoch += 1

    def _perform(self, decisions: list[Decision], fresh: frozenset | set = frozenset()) -> None:
        for decision in decisions:
            if decision.verdict == HELD:
                self._count["held"] += 1
                continue
            packet = self._held.pop(decision.id, None)
            if packet is None:                          # decided twice: a bug of the engine, harmless here
                self._errors["ENOENT"] = self._errors.get("ENOENT", 0) + 1
                continue
            if decision.id not in fresh:
                self._count["released"] += 1
            self._answer(packet, decision)
        for reply in self._feed.replies():
            self._send(reply)

    def _answer(self, packet, decision: Decision) -> None:
        if decision.reason != "none":
            self._reasons[decision.reason] = self._reasons.get(decision.reason, 0) + 1
        if decision.verdict in (DROP, QUEUE):
            self._count["dropped"] += 1
            packet.drop()
            return
        self._count["accepted"] += 1
        if decision.mark is not None:
            packet.set_mark(decision.mark)
        if decision.priority is not None:
            self._count["priority_lost"] += 1
        if decision.data is not None:
            self._count["rewritten"] += 1
            packet.set_payload(decision.data)
        if decision.verdict == REPEAT:
            packet.repeat()
        else:
            packet.accept()

    def _send(self, reply: Reply) -> None:
        """As _replies.send_reply: never blocks."""
        raw = self._raw.get(reply.family)
        ancillary = [(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("@I", reply.mark))] if reply.mark else []
        if reply.family == IPV4:
            target: tuple = (socket.inet_ntop(socket.AF_INET, reply.data[16:20]), 0)
            if reply.ifindex:
                ancillary.append((socket.IPPROTO_IP, IP_PKTINFO, IP_PKTINFO_INDEX.pack(reply.ifindex)))
        else:
            scope = reply.ifindex if reply.data[24] == 0xFE and reply.data[25] & 0xC0 == 0x80 else 0
            target = (socket.inet_ntop(socket.AF_INET6, reply.data[24:40]), 0, 0, scope)
            if reply.ifindex:
                ancillary.append((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, IPV6_PKTINFO_INDEX.pack(bytes(16), reply.ifindex)))
        try:
            if raw is None:
                raise OSError(errno.EPERM, "no raw socket")
            raw.sendmsg([reply.data], ancillary, socket.MSG_DONTWAIT, target)
            self._count["reject_sent"] += 1
        except OSError as error:
            self._count["reject_send_full" if error.errno in (errno.EAGAIN, errno.ENOBUFS) else "reject_failed"] += 1

    # ---- what the control side asks -----------------------------------------------------------------------------------

    def set_copy_range(self, size: int) -> None:
        """The package's range is fixed when the queue is bound: always all it can deliver."""

    def passed(self, epoch: int) -> bool:
        return self.blocked or self.epoch != epoch

    @property
    def drained(self) -> bool:
        return self.blocked and not self._held

    def statistics(self) -> dict:
        """As of our own Queue; also `cut` (packets of which only a part was delivered) and `priority_lost`."""
        return self._count | {"sends": self._count["accepted"] + self._count["dropped"], "errors": dict(self._errors),
                              "reasons": dict(self._reasons)}
