"""RewriteAll: an engine that only rewrites and sums: the floor that NAT is measured against (bench/nat.py).

One source address for everything that is forwarded, and back: no connections, no rules, no choice.  Like NAT it changes
requests at FORWARD and answers at PREROUTING, updates checksums incrementally and completes the partial ones.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from nfqfw._conn cimport Tuple
from nfqfw._natpacket cimport MANIP_DST, MANIP_SRC, put_packet_end
from nfqfw._outbox cimport EngineDoor
from nfqfw._packet cimport ACCEPT, DIRTY_PAYLOAD, DROP, FORWARD, IPV4, PREROUTING, Packet, destination, source
from nfqfw._parse cimport parse
from nfqfw._rewrite cimport rewrite_finish, writable


cdef struct Both:
    Tuple inside                # its source: who is hidden
    Tuple outside               # its source: what others see instead


cdef inline void rewrite(Both* both, Packet* p) noexcept nogil:
    cdef Tuple target
    parse(p)
    p.verdict = ACCEPT
    p.reason = 0
    p.dirty = 0
    if p.family != IPV4:
        return
    if p.hook == FORWARD and memcmp(source(p), both.inside.src, 4) == 0:
        memcpy(&target, &both.outside, sizeof(Tuple))
        target.sport = p.sport
        if not writable(p) or not put_packet_end(p, &target, MANIP_SRC):
            p.verdict = DROP
    elif p.hook == PREROUTING and memcmp(destination(p), both.outside.src, 4) == 0:
        memcpy(target.dst, both.inside.src, 16)
        target.dport = p.dport
        if not writable(p) or not put_packet_end(p, &target, MANIP_DST):
            p.verdict = DROP
    if p.dirty & DIRTY_PAYLOAD and rewrite_finish(p):
        p.verdict = DROP


cdef void rewrite_batch(void* engine, Packet* packets, uint32_t n, uint64_t now_ns, int64_t wall_ns) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        rewrite(<Both*>engine, &packets[i])


cdef class RewriteAll:
    """inside, outside: packed IPv4 addresses."""

    cdef EngineDoor _door
    cdef Both both

    def __cinit__(self, bytes inside, bytes outside):
        if len(inside) != 4 or len(outside) != 4:
            raise ValueError("an IPv4 address has 4 bytes")
        memset(&self.both, 0, sizeof(Both))
        memcpy(self.both.inside.src, <const char*>inside, 4)
        memcpy(self.both.outside.src, <const char*>outside, 4)
        self._door.batch = rewrite_batch
        self._door.engine = &self.both

    def door(self):
        return PyCapsule_New(&self._door, b"nfqfw.EngineDoor", NULL)

    def load(self, loaded):
        """As Engine.load; there are no rules here."""

    def set_attached(self, bits):
        """As Engine.set_attached; every crossing is judged by itself here."""
