"""Queue: our own NFQUEUE transport, raw netlink, one nogil loop per queue thread.

Overview.  `run` is the whole of a queue thread: receive up to 64 packets, let the engine judge them, send all verdicts in
one message, send our own replies, again until the socket is empty; then tell the engine so and sleep in poll.  It holds no
GIL and raises nothing; errors are counted.  Control goes through an eventfd and three words that other threads read:

- `stop` ends the loop at the next batch boundary;
- `epoch` grows at every boundary, `blocked` is 1 in poll.  A thread that stores a new Program and then sees `blocked`, or
  an `epoch` other than before, knows that the old Program is out of use here (design.md must 5).

Buffers.  One per message of a batch, each big enough for a 64 KiB super-packet and allocated once.  The stride is an odd
number of cache lines, or the first lines of all buffers, the only ones small packets touch, would share one set of L1.

Life-cycle.  open -> use(engine) -> run -> stop -> close.  A queue is never bound twice on one socket: ids restart and a
stale verdict would hit a new packet (spec/nfqueue.md 4).
"""

cimport cython
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from posix.mman cimport MAP_ANONYMOUS, MAP_FAILED, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap

from nfqfw._outbox cimport EngineDoor, Outbox, Released, Sender
from nfqfw._packet cimport DROP, HELD, REASON_COUNT, REASON_TRUNCATED, TRUNCATED, Packet
from nfqfw.queue cimport _libc as c
from nfqfw.queue._messages cimport (CFG_CMD_BIND, CFG_CMD_UNBIND, CFG_F_GSO, CFG_F_UID_GID, MSG_PACKET, NL_HEADER, NLMSG_ERROR,
                                    SUBSYS_QUEUE, align4, native16, native32, put_bind, put_params, read_packet)
from nfqfw.queue._ctnetlink cimport send_originals
from nfqfw.queue._replies cimport send_replies
from nfqfw.queue._verdicts cimport add_verdict, flush

import errno
import os

from nfqfw.errors import NfqfwError
from nfqfw.limits import PAYLOAD_BYTES, QUEUE_LENGTH, RECEIVE_BUFFER_BYTES
from nfqfw.reasons import REASONS

PROC_QUEUES = "/proc/thread-self/net/netfilter/nfnetlink_queue"

cdef enum:
    BUFFER_BYTES = 65536 + 4096     # largest packet with its attributes, and room for a target that grows it
    STRIDE = 65536 + 4096 + 64 * 5  # an odd number of cache lines
    IDLE_MS = 1000                  # poll returns at least so often, for the engine's expiry
    SEND_BUFFER = 4 << 20


# ---- the loop ---------------------------------------------------------------------------------------------------------

cdef void loop_run(Loop* q) noexcept nogil:
    cdef int n
    while c.load32(&q.stop) == 0:
        n = receive(q)
        if n > 0:
            take(q, <uint32_t>n)
        elif n == 0:
            idle(q)
            sleep(q)


cdef int receive(Loop* q) noexcept nogil:
    """Datagrams now in the buffers; 0 = the socket is empty; -1 = an error was counted, try again."""
    cdef int n = c.recvmmsg(q.fd, q.messages, BATCH, c.MSG_DONTWAIT, NULL)
    cdef int error
    if n > 0:
        return n
    error = c.nfqfw_errno()
    if error == c.EAGAIN:
        return 0
    if error == c.ENOBUFS:
        q.enobufs += 1
        return -1
    if error == c.EINTR:
        return -1
    q.errors[min(error, ERRNO_COUNT - 1)] += 1
    return 0                                        # sleeps before the next try: no error may spin


cdef void take(Loop* q, uint32_t n) noexcept nogil:
    """Read n datagrams, judge what they hold, send the verdicts."""
    cdef uint32_t i
    q.n = 0
    for i in range(n):
        if q.messages[i].msg_hdr.msg_flags & c.MSG_TRUNC:
            q.malformed += 1                        # longer than any packet message
        else:
            take_datagram(q, q.buffers + <size_t>i * q.stride, q.messages[i].msg_len)
    judge(q)


cdef void take_datagram(Loop* q, uint8_t* data, uint32_t length) noexcept nogil:
    cdef uint32_t off = 0, size
    while off + NL_HEADER <= length:
        size = native32(data + off)
        if size < NL_HEADER or size > length - off:
            q.malformed += 1
            return
        take_message(q, data + off, size, BUFFER_BYTES - length if off + align4(size) >= length else 0)
        off += align4(size)


cdef void take_message(Loop* q, uint8_t* message, uint32_t size, uint32_t room) noexcept nogil:
    """One packet, or one error of an earlier verdict; anything else is counted and skipped."""
    cdef uint16_t kind = native16(message + 4)
    cdef int32_t error
    cdef Packet* p
    if kind == SUBSYS_QUEUE | MSG_PACKET:
        if q.n == BATCH:                            # several messages per datagram
            judge(q)
        p = &q.packets[q.n]
        if read_packet(p, message, size, room) < 0:
            q.malformed += 1
            return
        p.queue = <uint16_t>q.index
        q.user_dropped += <uint32_t>(p.id - q.expected)
        q.expected = p.id + 1
        q.received += 1
        q.bytes += p.total
        q.n += 1
    elif kind == NLMSG_ERROR and size >= NL_HEADER + 4:
        error = <int32_t>(0 - native32(message + NL_HEADER))
        if error != 0:
            q.errors[error if 0 < error < ERRNO_COUNT else ERRNO_COUNT - 1] += 1
    else:
        q.malformed += 1


cdef void judge(Loop* q) noexcept nogil:
    """The batch through the engine and its verdicts to the kernel: one batch boundary."""
    if q.n == 0:
        return
    q.batches += 1
    q.door.batch(q.door.engine, q.packets, q.n, c.nfqfw_clock(c.CLOCK_MONOTONIC), <int64_t>c.nfqfw_clock(c.CLOCK_REALTIME))
    send_all(q, q.n)
    q.n = 0
    c.add64(&q.epoch, 1)


cdef void idle(Loop* q) noexcept nogil:
    """Nothing is left to read: the engine drops in-flight records the kernel refused, and may release what it held."""
    if q.door.idle != NULL:
        q.door.idle(q.door.engine, c.nfqfw_clock(c.CLOCK_MONOTONIC))
        send_all(q, 0)
    c.add64(&q.epoch, 1)


cdef void sleep(Loop* q) noexcept nogil:
    """Wait for a packet, a wake-up or a second."""
    cdef c.pollfd fds[2]
    cdef uint64_t ignored
    fds[0].fd = q.fd
    fds[0].events = c.POLLIN
    fds[0].revents = 0
    fds[1].fd = q.event
    fds[1].events = c.POLLIN
    fds[1].revents = 0
    q.polls += 1
    c.store32(&q.blocked, 1)
    c.poll(fds, 2, IDLE_MS)
    c.store32(&q.blocked, 0)
    if fds[1].revents != 0:
        c.read(q.event, &ignored, 8)


cdef void send_all(Loop* q, uint32_t n) noexcept nogil:
    """Verdicts of packets[0..n) and of released packets in the engine's order, then our own packets."""
    send_part(q, n, 0xffffffff)
    send_released(q, 0xffffffff, 0xffffffff)
    flush(&q.verdicts)
    q.told = q.told_released = 0
    if q.door.outbox == NULL:
        return
    q.door.outbox.n_released = 0
    if q.door.outbox.n_packets > 0:
        send_replies(&q.replies, q.door.outbox)


cdef void send_now(void* transport, uint32_t n, uint32_t n_released) noexcept nogil:
    """The same in the middle of a batch, as far as the engine has come (SendFunction)."""
    cdef Loop* q = <Loop*>transport
    send_part(q, n, n_released)
    send_released(q, n, n_released)
    flush(&q.verdicts)
    if q.door.outbox.n_packets > 0:
        send_replies(&q.replies, q.door.outbox)


cdef bint nothing_else_waits(const Loop* q, uint32_t n) noexcept nogil:
    """No packet up to number n of the batch is in the queue but those whose verdicts are gathered now.

    Ids are given one by one from 1 on: without a gap everything up to n has been read, and each but these has had its verdict.
    After a gap, or a message that could not be read, that is never certain again.
    """
    cdef uint32_t i
    if not q.batching or q.user_dropped or q.malformed or q.verdicts.lost or q.held != q.released:
        return False
    if q.door.outbox != NULL and q.door.outbox.n_released > q.told_released:
        return False
    for i in range(q.told, n):
        if q.packets[i].verdict == HELD:
            return False
    return True


cdef void send_part(Loop* q, uint32_t n, uint32_t n_released) noexcept nogil:
    """Gather the verdicts of packets up to n that have not been told, each behind the released ones before it."""
    cdef Packet* p
    q.verdicts.together = nothing_else_waits(q, n)
    if q.door.outbox != NULL and q.door.outbox.n_redirected:
        send_originals(&q.originals, q.door.outbox)
    while q.told < n:
        send_released(q, q.told, n_released)
        p = &q.packets[q.told]
        q.told += 1
        if p.verdict == HELD:
            q.held += 1
            continue
        q.reasons[p.reason & (REASON_SLOTS - 1)] += 1
        if not add_verdict(&q.verdicts, p.id, p.verdict, p.dirty, p.mark, p.priority, p.data, p.len, (p.flags & TRUNCATED) != 0):
            q.reasons[<int>REASON_TRUNCATED] += 1


cdef inline void send_released(Loop* q, uint32_t at, uint32_t most) noexcept nogil:
    """Gather the verdicts of the released packets whose turn is `at` or earlier, the outbox's first `most` at most."""
    cdef Outbox* box = q.door.outbox
    cdef Released* r
    while box != NULL and q.told_released < most and q.told_released < box.n_released and box.released[q.told_released].at <= at:
        r = &box.released[q.told_released]
        q.told_released += 1
        q.released += 1
        q.reasons[r.reason & (REASON_SLOTS - 1)] += 1
        if not add_verdict(&q.verdicts, r.id, r.verdict if r.verdict != HELD else <uint8_t>DROP, r.dirty, r.mark, r.priority,
                           r.data, r.len, r.truncated != 0):
            q.reasons[<int>REASON_TRUNCATED] += 1


# ---- opening and closing ----------------------------------------------------------------------------------------------

cdef Loop* loop_new(uint16_t queue, uint32_t index) except NULL:
    """A Loop with its buffers (address space only: pages come with use) and no sockets."""
    cdef Loop* q = <Loop*>calloc(1, sizeof(Loop))
    cdef size_t size = <size_t>BATCH * STRIDE
    cdef void* memory
    cdef int i
    if q == NULL:
        raise MemoryError
    memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if memory == MAP_FAILED:
        free(q)
        raise MemoryError
    q.fd = q.event = q.replies.fd4 = q.replies.fd6 = q.originals.fd = -1
    q.queue = queue
    q.index = index
    q.expected = 1
    q.batching = 1
    q.verdicts.queue = queue
    q.buffers = <uint8_t*>memory
    q.stride = STRIDE
    q.blocked = 1                                   # not running: holds no Program
    for i in range(BATCH):
        q.iov[i].iov_base = q.buffers + <size_t>i * STRIDE
        q.iov[i].iov_len = BUFFER_BYTES
        q.messages[i].msg_hdr.msg_iov = &q.iov[i]
        q.messages[i].msg_hdr.msg_iovlen = 1
    return q


cdef void loop_close(Loop* q) noexcept:
    """Close every descriptor.  What still waits in the queue is dropped by the kernel."""
    for fd in (q.fd, q.event, q.replies.fd4, q.replies.fd6, q.originals.fd):
        if fd >= 0:
            c.close(fd)
    q.fd = q.event = q.replies.fd4 = q.replies.fd6 = q.originals.fd = -1


cdef int raise_os(str what) except -1:
    cdef int error = c.nfqfw_errno()
    if error == c.EPERM:
        raise NfqfwError(f"{what}: {os.strerror(error)}", "run as root, or with CAP_NET_ADMIN and CAP_NET_RAW")
    raise NfqfwError(f"{what}: {os.strerror(error)}")


def queue_owner(int number):
    """Netlink port id (as a rule the process id) that owns a queue of this thread's namespace, or None."""
    try:
        with open(PROC_QUEUES) as table:
            for line in table:
                fields = line.split()
                if int(fields[0]) == number:
                    return int(fields[1])
    except FileNotFoundError:
        pass
    return None


@cython.no_gc_clear             # __dealloc__ takes itself out of the engine
cdef class Queue:
    """One NFQUEUE queue of the namespace in which `open` is called.

    number: queue number; index: Packet.queue of its packets.  copy_range: bytes of each packet that the kernel copies to
    us (at most 65,531).  gso: take super-packets whole.  uid_gid: ask for the sending socket's owner.  length: packets that
    may wait.  receive_buffer: bytes, forced past net.core.rmem_max.
    """

    def __cinit__(self, int number, *, int index=0, uint32_t copy_range=PAYLOAD_BYTES, bint gso=True, bint uid_gid=False,
                  uint32_t length=QUEUE_LENGTH, uint32_t receive_buffer=RECEIVE_BUFFER_BYTES):
        if not 0 <= number <= 0xffff or not 0 <= index <= 0xffff:
            raise ValueError("queue number or index out of range")
        if receive_buffer > 0x7fffffff:
            raise ValueError(f"a receive buffer of {receive_buffer} bytes: the kernel takes an int")
        self.number = number
        self.copy_range = min(copy_range, <uint32_t>PAYLOAD_BYTES)
        self.gso = gso
        self.uid_gid = uid_gid
        self.length = length
        self.receive_buffer = receive_buffer
        self.loop = loop_new(<uint16_t>number, index)

    def __dealloc__(self):
        if self.loop != NULL:
            self._let_go()
            loop_close(self.loop)
            munmap(self.loop.buffers, <size_t>BATCH * STRIDE)
            free(self.loop)

    def open(self):
        """Bind the queue and let packets flow.  NfqfwError if another process owns it, or without capabilities."""
        cdef Loop* q = self.loop
        if q.fd >= 0:
            raise ValueError("queue is open")
        try:
            self._open_sockets()
            self._configure(CFG_CMD_BIND)
        except BaseException:
            loop_close(q)
            raise
        self._set_range(self.copy_range)

    cdef int _open_sockets(self) except -1:
        cdef Loop* q = self.loop
        cdef c.sockaddr_nl address
        cdef int on = 1, size = <int>self.receive_buffer, send_size = SEND_BUFFER
        q.fd = c.socket(c.AF_NETLINK, c.SOCK_RAW | c.SOCK_CLOEXEC, c.NETLINK_NETFILTER)
        if q.fd < 0:
            raise_os("netlink socket")
        memset(&address, 0, sizeof(address))
        address.nl_family = c.AF_NETLINK
        if c.bind(q.fd, <c.sockaddr*>&address, sizeof(address)) < 0:
            raise_os("netlink socket")
        # Connected to the kernel (port 0): messages of other processes are refused to them, and no datagram's sender
        # needs to be asked for and compared.
        if c.connect(q.fd, <c.sockaddr*>&address, sizeof(address)) < 0:
            raise_os("netlink socket")
        q.verdicts.fd = q.fd
        # Without NO_ENOBUFS one overflow would make the kernel drop everything until we have read the socket empty; with
        # it only what does not fit is lost, and the gaps in the ids count that exactly.
        c.setsockopt(q.fd, c.SOL_NETLINK, c.NETLINK_NO_ENOBUFS, &on, sizeof(on))
        if c.setsockopt(q.fd, c.SOL_SOCKET, c.SO_RCVBUFFORCE, &size, sizeof(size)) < 0:
            raise_os("SO_RCVBUFFORCE")
        c.setsockopt(q.fd, c.SOL_SOCKET, c.SO_SNDBUFFORCE, &send_size, sizeof(send_size))
        q.event = c.eventfd(0, c.EFD_CLOEXEC | c.EFD_NONBLOCK)
        if q.event < 0:
            raise_os("eventfd")
        # Without raw sockets replies are counted as failed: an accept-only user of the queue needs no CAP_NET_RAW.
        q.replies.fd4 = c.socket(c.AF_INET, c.SOCK_RAW | c.SOCK_CLOEXEC, c.IPPROTO_RAW)
        q.replies.fd6 = c.socket(c.AF_INET6, c.SOCK_RAW | c.SOCK_CLOEXEC, c.IPPROTO_RAW)
        # A socket of its own: its answers (only failures have one) must not stand between packets.
        q.originals.fd = c.socket(c.AF_NETLINK, c.SOCK_RAW | c.SOCK_CLOEXEC, c.NETLINK_NETFILTER)
        if q.originals.fd >= 0 and c.connect(q.originals.fd, <c.sockaddr*>&address, sizeof(address)) < 0:
            raise_os("netlink socket")
        return 0

    cdef int _configure(self, uint8_t command) except -1:
        """Send bind or unbind and wait for the kernel's answer."""
        cdef uint8_t message[128]
        cdef uint8_t answer[4096]
        cdef uint32_t flags = (CFG_F_GSO if self.gso else 0) | (CFG_F_UID_GID if self.uid_gid else 0)
        cdef uint32_t size = put_bind(message, self.loop.queue, command, self.length, flags, 1)
        cdef ssize_t got
        cdef int error
        if c.send(self.loop.fd, message, size, 0) < 0:
            raise_os(f"queue {self.number}")
        got = c.recv(self.loop.fd, answer, sizeof(answer), 0)
        if got < NL_HEADER + 4 or native16(answer + 4) != NLMSG_ERROR:
            raise NfqfwError(f"queue {self.number}: unexpected answer of the kernel")
        error = -<int32_t>native32(answer + NL_HEADER)
        if error != 0:
            self._refused(error)
        return 0

    def _refused(self, int error):
        owner = queue_owner(self.number)
        if error in (errno.EPERM, errno.EBUSY) and owner is not None:
            raise NfqfwError(f"queue {self.number} is owned by another process (netlink port {owner})",
                             "stop that process or choose another queue with --queue")
        if error == errno.EPERM:
            raise NfqfwError(f"queue {self.number}: Operation not permitted", "run as root, or with CAP_NET_ADMIN")
        if error in (errno.EINVAL, errno.EOPNOTSUPP):
            raise NfqfwError("this kernel has no NFQUEUE (nfnetlink_queue)", "load it: modprobe nfnetlink_queue")
        raise NfqfwError(f"queue {self.number}: {os.strerror(error)}")

    cdef void _set_range(self, uint32_t copy_range) noexcept:
        cdef uint8_t message[64]
        cdef uint32_t size = put_params(message, self.loop.queue, copy_range)
        c.send(self.loop.fd, message, size, 0)      # an error comes back in the stream and is counted

    def set_copy_range(self, uint32_t copy_range):
        """Bytes of each packet to copy from now on; packets that already wait keep what was copied."""
        self.copy_range = min(copy_range, <uint32_t>PAYLOAD_BYTES)
        if self.loop.fd >= 0:
            self._set_range(self.copy_range)

    cdef void _let_go(self) noexcept:
        """The engine must not send through this queue any more."""
        cdef Sender* sender = self.loop.door.sender
        if self.engine is not None and sender != NULL and sender.transport == <void*>self.loop:
            sender.send = NULL

    def use(self, engine):
        """Give packets to this engine from now on: an object whose `door()` is a capsule of an EngineDoor."""
        cdef EngineDoor* door
        if self.running:
            raise ValueError("queue is running")
        capsule = engine.door()
        door = <EngineDoor*>PyCapsule_GetPointer(capsule, b"nfqfw.EngineDoor")
        self._let_go()
        self.loop.door = door[0]
        self.engine = (engine, capsule)
        if self.loop.door.sender != NULL:
            self.loop.door.sender.send = send_now
            self.loop.door.sender.transport = self.loop

    def run(self):
        """The loop, in the calling thread, until `stop`.  Takes the GIL only to return."""
        cdef Loop* q = self.loop
        if q.fd < 0 or q.door.batch == NULL:
            raise ValueError("queue is not open, or has no engine")
        if self.running:
            raise ValueError("queue is running")
        self.running = 1
        c.store32(&q.blocked, 0)
        with nogil:
            loop_run(q)
            c.store32(&q.blocked, 1)
        self.running = 0

    def inject(self, const uint8_t[::1] datagram not None):
        """Take a datagram as if the kernel had sent it: for tests and fuzzers, which need no queue.  Not while it runs."""
        cdef Loop* q = self.loop
        cdef uint32_t n = <uint32_t>len(datagram)
        if self.running or q.door.batch == NULL or n > BUFFER_BYTES:
            raise ValueError("queue is running, has no engine, or the datagram is too long")
        if n:
            memcpy(q.buffers, &datagram[0], n)
        q.messages[0].msg_len = n
        q.messages[0].msg_hdr.msg_flags = 0
        with nogil:
            take(q, 1)

    def stop(self):
        """Make `run` return at the next batch boundary.  Any thread; also before `run`."""
        c.store32(&self.loop.stop, 1)
        self.wake()

    def wake(self):
        """Make a thread that sleeps in poll pass a batch boundary now."""
        cdef uint64_t one = 1
        if self.loop.event >= 0:
            c.write(self.loop.event, &one, 8)

    def close(self):
        """Unbind and close: what still waits in the queue is dropped.  The loop must have returned."""
        cdef uint8_t message[128]
        cdef uint32_t size
        if self.running:
            raise ValueError("queue is running")
        self._let_go()
        if self.loop.fd >= 0:                       # unbind: a forked child may hold a copy of the descriptor
            size = put_bind(message, self.loop.queue, CFG_CMD_UNBIND, 0, 0, 2)
            c.send(self.loop.fd, message, size, 0)
            loop_close(self.loop)

    @property
    def epoch(self):
        """Batch boundaries passed so far."""
        c.fence()                                   # what the caller stored before is seen by whoever passes a boundary after
        return c.load64(&self.loop.epoch)

    @property
    def blocked(self):
        """True while the thread waits in poll or does not run: it holds no Program then."""
        return c.load32(&self.loop.blocked) != 0

    def passed(self, uint64_t epoch):
        """True when a Program that was replaced before `epoch` was read is out of use in this thread (must 5)."""
        return c.load32(&self.loop.blocked) != 0 or c.load64(&self.loop.epoch) != epoch

    @property
    def drained(self):
        """True when all that was delivered so far has its verdict: the socket was read empty and nothing is held."""
        cdef Loop* q = self.loop
        return c.load32(&q.blocked) != 0 and q.held == q.released

    def statistics(self):
        """What this queue has done since it was opened: plain numbers, `errors` by name, `reasons` by name.

        `runs`: verdicts that were one message for several packets; one error answers all of them.
        """
        cdef Loop* q = self.loop
        return {
            "packets": q.received, "bytes": q.bytes, "batches": q.batches, "polls": q.polls, "sends": q.verdicts.sends, "runs": q.verdicts.runs,
            "accepted": q.verdicts.accepted, "dropped": q.verdicts.dropped, "queued": q.verdicts.queued,
            "held": q.held, "released": q.released, "rewritten": q.verdicts.payloads,
            "user_dropped": q.user_dropped, "enobufs": q.enobufs, "malformed": q.malformed,
            "verdict_retries": q.verdicts.retries, "verdicts_lost": q.verdicts.lost,
            "reject_sent": q.replies.sent, "reject_failed": q.replies.failed,
            "originals_made": q.originals.made, "originals_failed": q.originals.failed,
            "reject_send_full": q.replies.full + (q.door.outbox.full if q.door.outbox != NULL else 0),
            "errors": {errno.errorcode.get(i, str(i)): q.errors[i] for i in range(ERRNO_COUNT) if q.errors[i]},
            "reasons": {name: q.reasons[i] for i, name in enumerate(REASONS) if i and q.reasons[i]},
        }
