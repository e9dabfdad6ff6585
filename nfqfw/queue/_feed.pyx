"""Feed: batches for an engine out of Python, through the same door and in the same order as the live loop.

For transports that meet packets in Python: captures (offline.py) and the NetfilterQueue package.  Packets are copied into
buffers with room to grow; the engine runs without the GIL; what it decided comes back as values:

    feed.add(data, hook, ...) ...; decisions = feed.run(now, wall); replies = feed.replies()

`run` returns Decisions in the order in which verdicts must take effect (must 10), released packets included.
"""

cimport cython
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from nfqfw._outbox cimport EngineDoor, Outbox, Released
from nfqfw._packet cimport (DIRTY_MARK, DIRTY_PAYLOAD, DIRTY_PRIORITY, DROP, HELD, HOOKS, IPV4, IPV6, KNOWN_GID, KNOWN_HWADDR, KNOWN_UID,
                            REASON_TRUNCATED, TRUNCATED, Packet, put16)
from nfqfw.queue._libc cimport CLOCK_MONOTONIC, nfqfw_clock

from typing import NamedTuple

from nfqfw.reasons import REASONS

cdef enum:
    BATCH = 64                          # limits.BATCH_PACKETS
    BUFFER_BYTES = 65536 + 4096         # longest IP packet, and room for a target that grows it
    STRIDE = 65536 + 4096 + 64 * 5      # an odd number of cache lines: see _nfnetlink.pyx


class Decision(NamedTuple):
    """What the engine decided for one packet; None = unchanged."""

    id: int
    verdict: int                # Verdict; HELD: a later Decision of this id follows
    mark: int | None
    priority: int | None
    data: bytes | None
    reason: str                 # name of our reason to drop, "none" when the rules decided


class Reply(NamedTuple):
    """A packet of our own (REJECT)."""

    family: int
    data: bytes
    mark: int
    ifindex: int                # 0 = the route decides


@cython.no_gc_clear             # what it keeps of the engine must not go before it
cdef class Feed:
    """engine: an object whose door() is an EngineDoor capsule.  Not for two threads at once."""
    cdef EngineDoor _door
    cdef object _engine
    cdef uint8_t* _buffers
    cdef Packet _packets[64]
    cdef uint32_t _n
    cdef uint64_t _random       # which flows measure() takes next

    def __cinit__(self, engine):
        capsule = engine.door()
        self._door = (<EngineDoor*>PyCapsule_GetPointer(capsule, b"nfqfw.EngineDoor"))[0]
        self._engine = (engine, capsule)
        self._random = 88172645463325252
        self._buffers = <uint8_t*>calloc(BATCH, STRIDE)
        if self._buffers == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._buffers)

    def __len__(self):
        return self._n

    def add(self, const uint8_t[::1] data not None, uint8_t hook, *, uint32_t id, uint8_t family=0, uint32_t total=0, uint32_t ifin=0,
            uint32_t ifout=0, uint32_t physin=0, uint32_t physout=0, uint32_t mark=0, uint32_t priority=0,
            uint32_t skbinfo=0, hwaddr=None, uid=None, gid=None, uint16_t queue=0):
        """Append a packet to the batch (at most 64).  data: from the IP header on, at most 65,536 bytes; family 0: by its version.

        total: length in the kernel when `data` is only a part.  ValueError when there is no room, or no IP packet has this hook or family.
        """
        cdef Packet* p
        cdef uint32_t n = <uint32_t>len(data)
        if self._n >= BATCH or n > 65536:
            raise ValueError("batch full, or packet too long")
        if hook >= HOOKS or family not in (0, IPV4, IPV6):
            raise ValueError(f"hook {hook} of family {family}")
        p = &self._packets[self._n]
        memset(p, 0, sizeof(Packet))
        p.data = self._buffers + <size_t>self._n * STRIDE
        if n:
            memcpy(p.data, &data[0], n)
        p.len = n
        p.total = total if total > n else n
        p.flags = TRUNCATED if p.total > n else 0
        p.capacity = n if p.total > n else BUFFER_BYTES
        p.family = family if family else (10 if n and data[0] >> 4 == 6 else 2)
        p.id, p.hook, p.queue = id, hook, queue
        p.ifin, p.ifout, p.physin, p.physout = ifin, ifout, physin, physout
        p.mark, p.priority, p.skbinfo = mark, priority, skbinfo
        self._facts(p, hwaddr, uid, gid)
        self._n += 1

    cdef int _facts(self, Packet* p, hwaddr, uid, gid) except -1:
        cdef bytes address
        if hwaddr:
            address = bytes(hwaddr)[:8]
            p.hwlen = <uint8_t>len(address)
            memcpy(p.hwaddr, <const char*>address, p.hwlen)
            p.known |= KNOWN_HWADDR
        if uid is not None:
            p.uid = uid
            p.known |= KNOWN_UID
        if gid is not None:
            p.gid = gid
            p.known |= KNOWN_GID
        return 0

    def run(self, uint64_t now, int64_t wall):
        """Judge the batch.  now: ns of a monotonic clock, wall: ns since the epoch, of the same moment."""
        if self._n:
            with nogil:
                self._door.batch(self._door.engine, self._packets, self._n, now, wall)
        return self._collect()

    def idle(self, uint64_t now):
        """Nothing that was sent will come back any more; returns Decisions of packets that were held."""
        if self._door.idle != NULL:
            with nogil:
                self._door.idle(self._door.engine, now)
        return self._collect()

    def replies(self):
        """Replies since the last call, in order."""
        cdef Outbox* box = self._door.outbox
        cdef uint32_t i
        if box == NULL:
            return []
        box.n_redirected = 0                # only the nfnetlink transport tells the kernel of redirected connections
        out = [Reply(box.packets[i].family, box.packets[i].data[:box.packets[i].len], box.packets[i].mark,
                     box.packets[i].ifindex) for i in range(box.n_packets)]
        box.n_packets = 0
        return out

    def measure(self, uint32_t rounds, uint32_t flows, uint64_t now, int64_t wall):
        """For benchmarks: judge the batch `rounds` times; returns the engine's ns.  The batch stays.

        flows > 0: before each packet is judged again it becomes one of so many UDP flows, at random, by its ports
        (the packets must be IPv4 UDP without options and with checksum 0); 0: the packets as they are.
        """
        cdef Packet pristine[64]
        cdef uint64_t spent = 0, begun, state = self._random
        cdef uint32_t r, i, flow, n = self._n
        memcpy(pristine, self._packets, sizeof(pristine))
        with nogil:
            for r in range(rounds):
                memcpy(self._packets, pristine, n * sizeof(Packet))
                for i in range(n if flows else 0):
                    state ^= state << 13                # xorshift64
                    state ^= state >> 7
                    state ^= state << 17
                    flow = <uint32_t>((state >> 11) % flows)
                    put16(self._packets[i].data + 20, 1024 + flow % 64000)
                    put16(self._packets[i].data + 22, 1024 + flow // 64000)
                begun = nfqfw_clock(CLOCK_MONOTONIC)
                self._door.batch(self._door.engine, self._packets, n, now, wall)
                spent += nfqfw_clock(CLOCK_MONOTONIC) - begun
                if self._door.outbox != NULL:
                    self._door.outbox.n_released = 0
                    self._door.outbox.n_packets = 0
                    self._door.outbox.n_redirected = 0
                if self._door.idle != NULL:
                    self._door.idle(self._door.engine, now)
                now += 1000
                wall += 1000
        memcpy(self._packets, pristine, sizeof(pristine))
        self._random = state                            # the next flows are others: these may still be in the cache
        return spent

    cdef list _collect(self):
        cdef Outbox* box = self._door.outbox
        cdef Packet* p
        cdef uint32_t i, next_released = 0
        cdef list out = []
        for i in range(self._n):
            p = &self._packets[i]
            of_this = decision(p.id, p.verdict, p.dirty, p.mark, p.priority, p.data, p.len, p.flags & TRUNCATED, p.reason)
            if p.verdict == HELD:               # before what it completes: that releases this packet, too
                out.append(of_this)
            while box != NULL and next_released < box.n_released and box.released[next_released].at <= i:
                out.append(released(&box.released[next_released]))
                next_released += 1
            if p.verdict != HELD:
                out.append(of_this)
        self._n = 0
        if box != NULL:
            while next_released < box.n_released:
                out.append(released(&box.released[next_released]))
                next_released += 1
            box.n_released = 0
        return out


cdef released(Released* r):
    return decision(r.id, r.verdict if r.verdict != HELD else <uint8_t>DROP, r.dirty, r.mark, r.priority, r.data, r.len,
                    r.truncated, r.reason)


cdef decision(uint32_t id, uint8_t verdict, uint8_t dirty, uint32_t mark, uint32_t priority, uint8_t* data, uint32_t length,
              bint truncated, uint8_t reason):
    """As _verdicts.add_verdict: a changed packet of which we have only a part is dropped."""
    if dirty & DIRTY_PAYLOAD and verdict not in (DROP, HELD) and (truncated or data == NULL):
        verdict, reason = DROP, REASON_TRUNCATED
    if verdict == DROP or verdict == HELD:
        dirty = 0
    return Decision(id, verdict, mark if dirty & DIRTY_MARK else None, priority if dirty & DIRTY_PRIORITY else None,
                    data[:length] if dirty & DIRTY_PAYLOAD else None, REASONS[reason] if reason < len(REASONS) else "internal")
