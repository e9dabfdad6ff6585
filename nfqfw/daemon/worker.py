"""Worker: the queue threads of a running firewall, their engines and their diversion in the kernel.

Overview.  One engine and one queue thread per queue.  The threads need nothing from Python while they run; what is here is
control: start, swap, totals, stop.  Everything happens in the network namespace of the thread that calls `start`.

Life-cycle.
    start   queues bound, threads running, and only then the hooks diverted: no packet meets a queue without a reader
    load    one swap: hooks that are new are diverted before, hooks no longer wanted after the swap, so that no step of a
            packet's path is left to a hook that is not diverted.  Returns when no thread uses the old Program
    stop    diversion off, what waits is judged, table off, threads ended, queues closed
Without `stop` (a kill) the table stays and the kernel drops what it diverts: fail closed.

Housekeeping.  A thread calls `housekeeping` (expiry, ...) once a second, reads what the kernel dropped before our queues, hands
log and trace records to `on_records`, and wakes threads that sleep while packets are between two hooks: that the kernel has
refused one is known only when all threads have found their queues empty again (nfqfw/_inflight.pxd).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from nfqfw import attach
from nfqfw.errors import NfqfwError
from nfqfw.limits import DRAIN_SECONDS, PAYLOAD_BYTES, QUEUE_LENGTH, RECORDS_SECONDS, SWAP_SECONDS

HOUSEKEEPING_SECONDS = 1.0
WHOLE_PACKET = frozenset(("rewrites", "payload", "nat"))    # features of a Program that need every byte of a packet
TOTALS = ("packets", "bytes", "batches", "accepted", "dropped", "queued", "held", "released", "rewritten", "user_dropped",
          "enobufs", "malformed", "verdict_retries", "verdicts_lost", "reject_sent", "reject_failed", "reject_send_full")


def nfnetlink(number: int, index: int, copy_range: int, length: int):
    from nfqfw.queue._nfnetlink import Queue

    return Queue(number, index=index, copy_range=copy_range, length=length, uid_gid=True)


def netfilterqueue(number: int, index: int, copy_range: int, length: int):
    from nfqfw.queue.netfilterqueue import Queue

    return Queue(number, index=index, copy_range=copy_range, length=length)


TRANSPORTS: dict[str, Callable] = {"nfnetlink": nfnetlink, "netfilterqueue": netfilterqueue}


def notices(transport: str, largest_mtu: int) -> list[str]:
    """What a user should know about this transport on a host with interfaces of this MTU, one line each."""
    if transport != "netfilterqueue":
        return []
    from nfqfw.queue.netfilterqueue import limits

    return limits(largest_mtu)


def hook_bits(hooks: Iterable[str]) -> int:
    """One bit per hook (1 << NF_INET_*), as engines take them."""
    return sum(1 << attach.HOOKS[name][0] for name in hooks)


def copy_range(program, largest_mtu: int) -> int:
    """Bytes of each packet to copy for this Program: all of it for a rule that rewrites or reads payload, else one MTU.

    One MTU holds every packet whose checksums conntrack verifies whole (design.md section 5).
    """
    features = set().union(*program.features.values())
    return PAYLOAD_BYTES if features & WHOLE_PACKET else max(largest_mtu, 128)


class Worker:
    """Queue threads over `engines`, one each, on queues `queue`, `queue` + 1, …

    An engine has door(), load(loaded), set_attached(bits), and may have take_records() and in_flight.  transport: a name of TRANSPORTS.
    length: packets that may wait in each queue; the kernel drops more (`queue_dropped`).
    on_records(engine number, list of records) is called from the housekeeping thread, on_warning(text) from the guard's.
    """

    def __init__(self, engines: Sequence, *, queue: int = 0, transport: str = "nfnetlink", copy_range: int = PAYLOAD_BYTES,
                 length: int = QUEUE_LENGTH, housekeeping: Callable[[], object] | None = None,
                 on_records: Callable[[int, list], object] | None = None,
                 on_warning: Callable[[str], object] = lambda text: None):
        if transport not in TRANSPORTS:
            raise NfqfwError(f"unknown transport '{transport}'", f"choose one of {', '.join(TRANSPORTS)}")
        self.engines = list(engines)
        self.transport = transport
        self.queue = queue
        self.ready = threading.Event()              # set while packets are diverted to running threads
        self.failure: BaseException | None = None   # what ended a thread that nobody stopped; its queue fills up and drops
        self.attachment: attach.Attachment | None = None
        self.hooks: frozenset[str] = frozenset()
        self._copy_range = copy_range
        self._length = length
        self._housekeeping = housekeeping
        self._on_records = on_records
        self._on_warning = on_warning
        self._guard: attach.Guard | None = None
        self._stopping = threading.Event()
        self._control = threading.Lock()            # one load or stop at a time
        self._queues: list = []
        self._threads: list[threading.Thread] = []
        self._last: dict = {}
        self._kernel = {"queue_dropped": 0, "waiting": 0}

    # ---- life-cycle ---------------------------------------------------------------------------------------------------

    def start(self, hooks: Iterable[str] = ()) -> None:
        """Bind, run, divert.  The engines must have their Program.  NfqfwError: nothing is left behind."""
        hooks = frozenset(hooks)
        try:
            for index, engine in enumerate(self.engines):
                queue = TRANSPORTS[self.transport](self.queue + index, index, self._copy_range, self._length)
                self._queues.append(queue)
                queue.open()
                queue.use(engine)
                engine.set_attached(hook_bits(hooks))
            for number, queue in enumerate(self._queues):
                self._spawn(f"nfqfw-queue-{self.queue + number}", self._run, queue)
            self._spawn("nfqfw-housekeeping", self._keep_house)
            self._divert(hooks)
        except BaseException:
            self._end_threads()
            raise
        self.ready.set()

    def stop(self) -> dict:
        """Take everything down in the order that loses nothing of ours; returns the totals.  Again: only the totals."""
        with self._control:
            if self._queues:
                self.ready.clear()
                if self._guard is not None:
                    self._guard.close()
                    self._guard = None
                if self.attachment is not None:
                    self.attachment.detach(self._drain)
                    self.attachment = None
                self._end_threads()
            return self._last

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    # ---- swap ---------------------------------------------------------------------------------------------------------

    def load(self, loaded, hooks: Iterable[str] | None = None, copy_range: int | None = None) -> None:
        """Swap to a LoadedProgram, and to these diverted hooks and this copy range.

        Returns when every thread has passed a batch boundary or sleeps: the old Program's counters are final then.
        Packets that wait keep the bytes copied for them; a rule that must rewrite a cut one drops it as `truncated`.
        """
        with self._control:
            wanted = self.hooks if hooks is None else frozenset(hooks)
            if copy_range is not None and copy_range > self._copy_range:
                self._set_copy_range(copy_range)
            if wanted - self.hooks:
                self._divert(self.hooks | wanted)
            for engine in self.engines:
                engine.load(loaded)
                engine.set_attached(hook_bits(wanted))
            self._pass_boundary()
            if wanted != self.hooks:
                self._divert(wanted)
            if copy_range is not None and copy_range < self._copy_range:
                self._set_copy_range(copy_range)

    def set_host(self, block: bytes) -> None:
        """Give the engines a new Host block; each takes it up at its next batch.

        Returns when no thread reads an older one.  A thread that hangs is a failure, as one that ended is.
        """
        with self._control:
            for engine in self.engines:
                engine.set_host(block)
            if self.failure is None:
                try:
                    self._pass_boundary()
                except NfqfwError as error:
                    self._fail(error)

    def set_copy_range(self, size: int) -> None:
        """Bytes of each packet to copy from now on; after a change of the largest MTU."""
        with self._control:
            if size != self._copy_range:
                self._set_copy_range(size)

    def pass_boundary(self) -> None:
        """Wait until every queue thread has passed a batch boundary or sleeps (design.md must 5)."""
        with self._control:
            self._pass_boundary()

    def _pass_boundary(self) -> None:
        epochs = [(queue, queue.epoch) for queue in self._queues]
        deadline = time.monotonic() + SWAP_SECONDS
        pause = 0.00005
        while not all(queue.passed(epoch) for queue, epoch in epochs):
            if time.monotonic() > deadline:
                raise NfqfwError(f"a queue thread did not finish its batch within {SWAP_SECONDS} seconds")
            time.sleep(pause)
            pause = min(2 * pause, 0.002)

    def _set_copy_range(self, size: int) -> None:
        self._copy_range = size
        for queue in self._queues:
            queue.set_copy_range(size)

    def _divert(self, hooks: frozenset[str]) -> None:
        """Queue these hooks.  An empty set with no table yet makes none: an empty ruleset attaches nothing."""
        if self.attachment is None:
            if not hooks:
                return
            self.attachment = attach.attach(hooks, self.queue, len(self._queues))
            self._guard = attach.Guard(self.attachment, self._repaired, self._fail)
        else:
            self.attachment.set_hooks(hooks)
        self.hooks = hooks

    def _repaired(self, hooks: frozenset[str]) -> None:
        self._on_warning(f"another program removed our diversion from {', '.join(sorted(hooks))}; it is back, but packets between passed "
                         "unjudged, and packets that waited were dropped by the kernel")

    def _fail(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self.ready.clear()

    # ---- totals -------------------------------------------------------------------------------------------------------

    def totals(self) -> dict:
        """Sums over all queues since `start`: TOTALS, `errors` of the kernel by errno, `reasons` of our own drops.

        `queue_dropped` (a queue was full) and `waiting` are the kernel's, at most a second old.
        """
        if not self._queues:
            return self._last
        statistics = [queue.statistics() for queue in self._queues]
        totals: dict = {name: sum(one.get(name, 0) for one in statistics) for name in TOTALS}
        for name in ("errors", "reasons"):
            totals[name] = dict(sum((Counter(one[name]) for one in statistics), Counter()))
        return totals | self._kernel

    # ---- threads ------------------------------------------------------------------------------------------------------

    def _spawn(self, name: str, target: Callable, *arguments) -> None:
        thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, queue) -> None:
        try:
            queue.run()
            if not self._stopping.is_set():
                raise RuntimeError("the loop of a queue ended by itself")
        except BaseException as error:
            self._fail(error)

    def _keep_house(self) -> None:
        due = time.monotonic() + HOUSEKEEPING_SECONDS
        while not self._stopping.wait(RECORDS_SECONDS if self._on_records else HOUSEKEEPING_SECONDS):
            self._hand_records()
            self._wake_sleepers()
            if time.monotonic() >= due:
                self._ask_kernel()
                if self._housekeeping:
                    self._housekeeping()
                due = time.monotonic() + HOUSEKEEPING_SECONDS
        self._hand_records()
        self._ask_kernel()

    def _between_hooks(self) -> int:
        """Packets that several queues together have yet to see again, or to know refused; one queue knows by itself."""
        return getattr(self.engines[0], "in_flight", 0) if len(self._queues) > 1 else 0

    def _wake_sleepers(self) -> None:
        if self._between_hooks():
            for queue in self._queues:
                queue.wake()

    def _ask_kernel(self) -> None:
        """This thread was started in the namespace of `start`, and so reads that namespace's table."""
        ours = range(self.queue, self.queue + len(self.engines))
        lines = [line for number, line in attach.queue_owners().items() if number in ours]
        self._kernel = {"queue_dropped": sum(line.queue_dropped for line in lines),
                        "waiting": sum(line.waiting for line in lines)}

    def _hand_records(self) -> None:
        if self._on_records:
            for number, engine in enumerate(self.engines):
                if records := engine.take_records():
                    self._on_records(number, records)

    def _drain(self) -> None:
        """Wait until what was queued before the rules went is judged; held fragments get DRAIN_SECONDS to complete."""
        deadline = time.monotonic() + DRAIN_SECONDS
        quiet = 0
        while quiet < 3 and time.monotonic() < deadline:       # a packet may still be on its way into the queue
            time.sleep(0.005)
            self._wake_sleepers()
            quiet = quiet + 1 if all(queue.drained for queue in self._queues) and not self._between_hooks() else 0

    def _end_threads(self) -> None:
        self._stopping.set()
        for queue in self._queues:
            queue.stop()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(SWAP_SECONDS)
        self._last = self.totals()
        for queue in self._queues:
            queue.close()
        self._queues.clear()
