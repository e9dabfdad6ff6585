"""Facts about several queues, asked of the running kernel: which queue a packet waits in, and when and in which order it is there.

    python -m tests.queue.order [--packets 20000]        # the long way round, as root; what it prints is in docs/queues.md
    tests/queue/test_order.py                           # the short one

One process per queue, so that they run at the same time.  Each reads its queue empty, gives all verdicts in one send() and notes
the moment at which that returned; and whenever a read finds the queue empty, the moment at which that read began.  A packet that
comes after a read that began after its verdict's send() had returned was late: it did not wait at its next crossing.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import socket
import struct
import sys
import time
from collections import Counter
from typing import NamedTuple

from nfqfw import attach
from nfqfw._netlink import HEADER, NLM_F_REQUEST, attribute, attributes, split
from tests.tinyqueue import ACCEPT, PACKET, VERDICT, TinyQueue

PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)
QUEUES = 2
BATCH = 64
PATIENCE = 1.0                  # seconds without a packet, once all are sent, after which a reader ends
FORCE = {"receive": 33, "send": 32}     # SO_RCVBUFFORCE, SO_SNDBUFFORCE
PORT, VIPS, SERVER = 9000, ("192.0.2.1", "192.0.2.2", "192.0.2.3"), "10.0.2.2"
PREFIX = struct.Struct(">BBH")


class Crossing(NamedTuple):
    queue: int
    hook: int
    packet: int                 # number that the sender wrote into the payload
    seen: int                   # CLOCK_MONOTONIC ns of the read that brought it
    told: int                   # … at which send() of its verdict returned


class Log(NamedTuple):
    crossings: list[Crossing]   # in the order read
    empty: list[tuple[int, int]]        # (reads before it, CLOCK_MONOTONIC ns at which a read that found nothing began)


def sum16(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def datagram(src: str, dst: str, sport: int, number: int) -> bytes:
    """IPv4 and UDP without a checksum; the payload is the number."""
    ends = socket.inet_aton(src) + socket.inet_aton(dst)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 32, number & 0xFFFF, 0, 64, 17, 0) + ends
    head = head[:10] + struct.pack(">H", sum16(head)) + head[12:]
    return head + struct.pack(">HHHHI", sport, PORT, 12, 0, number)


def to_server(data: bytes) -> bytes | None:
    """A packet to one of the VIPs, translated; None: it stays."""
    if socket.inet_ntoa(data[16:20]) not in VIPS:
        return None
    head = data[:10] + b"\0\0" + data[12:16] + socket.inet_aton(SERVER)
    return head[:10] + struct.pack(">H", sum16(head)) + head[12:] + data[20:]


class Reader:
    """One queue: read empty, judge, tell all verdicts at once, and note when."""

    def __init__(self, number: int):
        self.number = number
        self.queue = TinyQueue(number)
        self.queue._config(attribute(3, struct.pack(">I", 65535)))      # as many may wait
        self.socket = self.queue._socket.socket
        self.socket.setsockopt(socket.SOL_SOCKET, FORCE["receive"], 64 << 20)
        self.log = Log([], [])

    def run(self, cpu: int, sent) -> Log:
        """sent: the Event that all packets are on their way."""
        os.sched_setaffinity(0, {cpu})
        last = time.monotonic()
        while time.monotonic() < last + PATIENCE:
            if self.batch() or not sent.is_set():
                last = time.monotonic()
            else:
                time.sleep(0)
        return self.log

    def batch(self) -> int:
        waiting = []
        while len(waiting) < BATCH:
            begun = time.monotonic_ns()
            try:
                data = self.socket.recv(1 << 17, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self.log.empty.append((len(self.log.crossings) + len(waiting), begun))
                break
            except OSError:
                continue
            waiting += [(begun, dict(attributes(body, 4))) for kind, _, _, body in split(data) if kind == PACKET]
        if waiting:
            self.tell(waiting)
        return len(waiting)

    def tell(self, waiting: list) -> None:
        parts, seen = [], []
        for begun, values in waiting:
            number, _, hook = struct.unpack_from(">IHB", values[1])
            data = values[10]
            content = PREFIX.pack(0, 0, self.number) + attribute(2, struct.pack(">II", ACCEPT, number))
            if hook == PREROUTING and (changed := to_server(data)) is not None:
                content += attribute(10, changed)
            parts.append(HEADER.pack(16 + len(content), VERDICT, NLM_F_REQUEST, 0, 0) + content)
            seen.append((hook, struct.unpack(">I", data[28:32])[0] if len(data) == 32 else -1, begun))
        self.socket.send(b"".join(parts))
        told = time.monotonic_ns()
        self.log.crossings.extend(Crossing(self.number, hook, packet, begun, told) for hook, packet, begun in seen)


def read_all(host, hooks, feed) -> list[Log]:
    """Divert these hooks of a host to QUEUES readers of their own, run feed(), and return what each of them noted."""
    context = multiprocessing.get_context("fork")
    cpus = sorted(os.sched_getaffinity(0))
    with host.entered(), contextlib.ExitStack() as stack:
        readers = [stack.enter_context(contextlib.closing(_closing(Reader(number)))) for number in range(QUEUES)]
        attachment = attach.attach(hooks, 0, QUEUES)
        stack.callback(attachment.detach)
        pipes, sent = [], context.Event()
        for number, reader in enumerate(readers):
            ours, theirs = context.Pipe(False)
            process = context.Process(target=lambda r=reader, c=cpus[number % len(cpus)], t=theirs: t.send(r.run(c, sent)), daemon=True)
            process.start()
            stack.callback(process.join, 10)
            pipes.append(ours)
        try:
            feed()
        finally:
            sent.set()
        return [pipe.recv() for pipe in pipes]


def _closing(reader: Reader) -> Reader:
    reader.close = reader.queue._socket.close
    return reader


# ---- what the notes say -----------------------------------------------------------------------------------------------

class Facts(NamedTuple):
    packets: int                # that crossed the first hook
    changed_queue: int          # of these, how many waited in another queue at the second
    missing: int                # never seen there
    late: int                   # came after a read that began after its verdict was sent had found nothing
    reordered: int              # came before one whose verdict the same process had given earlier


def facts(logs: list[Log], first: int, second: int) -> Facts:
    """Compare crossings of hook `first` with those of hook `second`."""
    before = {crossing.packet: crossing for log in logs for crossing in log.crossings if crossing.hook == first and crossing.packet >= 0}
    after = {crossing.packet: crossing for log in logs for crossing in log.crossings if crossing.hook == second and crossing.packet >= 0}
    rank = {packet: n for log in logs for n, packet in enumerate(c.packet for c in log.crossings if c.hook == first)}
    late = reordered = 0
    for log in logs:
        empties, n = log.empty, 0
        newest = 0              # begin of the last read so far that found nothing
        latest: Counter = Counter()
        for position, crossing in enumerate(log.crossings):
            while n < len(empties) and empties[n][0] <= position:
                newest = empties[n][1]
                n += 1
            if crossing.hook != second or crossing.packet not in before:
                continue
            origin = before[crossing.packet]
            late += origin.told < newest
            reordered += rank[crossing.packet] < latest[origin.queue]
            latest[origin.queue] = max(latest[origin.queue], rank[crossing.packet])
    moved = sum(before[packet].queue != after[packet].queue for packet in before.keys() & after.keys())
    return Facts(len(before), moved, len(before.keys() - after.keys()), late, reordered)


# ---- traffic ----------------------------------------------------------------------------------------------------------

def forwarded(lab, count: int, destinations=(SERVER,)):
    """feed() for read_all: datagrams from many addresses behind the client, by a raw socket."""
    def feed():
        with lab.client.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.setsockopt(socket.SOL_SOCKET, FORCE["send"], 64 << 20)
            for number in range(count):
                dst = destinations[number % len(destinations)]
                raw.sendto(datagram(f"10.7.{number % 7}.{number % 251}", dst, 2000 + number % 5, number), (dst, 0))
    return feed


def looped(host, count: int):
    """feed() for read_all: datagrams of a host to itself, over lo."""
    def feed():
        with host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.setsockopt(socket.SOL_SOCKET, FORCE["send"], 64 << 20)
            for number in range(count):
                dst = f"127.0.{number % 7}.{1 + number % 250}"
                raw.sendto(datagram("127.0.0.1", dst, 2000 + number % 5, number), (dst, 0))
    return feed


@contextlib.contextmanager
def softirq_load():
    """Every CPU has packets to forward in another lab, by processes that send as fast as they can."""
    from netns import Lab

    def flood(lab, cpu):
        os.sched_setaffinity(0, {cpu})
        with lab.client.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            packet = datagram("10.0.1.2", SERVER, 1, 0)
            while True:
                with contextlib.suppress(OSError):
                    raw.sendto(packet, (SERVER, 0))

    context = multiprocessing.get_context("fork")
    with Lab() as lab:
        processes = [context.Process(target=flood, args=(lab, cpu), daemon=True) for cpu in os.sched_getaffinity(0)]
        for process in processes:
            process.start()
        try:
            yield
        finally:
            for process in processes:
                process.kill()
                process.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packets", type=int, default=20_000)
    options = parser.parse_args()
    from netns import Lab

    cases = {
        "PREROUTING → FORWARD": (("PREROUTING", "FORWARD"), PREROUTING, FORWARD, (SERVER,)),
        "PREROUTING → FORWARD, DNAT": (("PREROUTING", "FORWARD"), PREROUTING, FORWARD, VIPS),
        "FORWARD → POSTROUTING": (("FORWARD", "POSTROUTING"), FORWARD, POSTROUTING, (SERVER,)),
        "OUTPUT → PREROUTING on lo": (("OUTPUT", "PREROUTING"), OUTPUT, PREROUTING, None),
    }
    for name, load in (("quiet", contextlib.nullcontext), ("softirq load on every CPU", softirq_load)):
        print(f"{name}:")
        for label, (hooks, first, second, destinations) in cases.items():
            with Lab() as lab, load():
                feed = looped(lab.firewall, options.packets) if destinations is None else forwarded(lab, options.packets, destinations)
                print(f"    {label:30} {facts(read_all(lab.firewall, hooks, feed), first, second)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
