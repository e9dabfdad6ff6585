"""Writing trace and log records into the ring of a queue thread.  Header-only; see _trace.pxd for the records."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset

from nfqfw._packet cimport Packet
from nfqfw._program cimport Context
from nfqfw._ring cimport ring_put
from nfqfw._trace cimport NOT_TRACKED, RECORD_TRACE, PacketRecord, TraceRecord


cdef enum:
    CAPTURE = 256               # bytes of the packet that a record carries: headers and options
    RECORD_BYTES = 88           # sizeof(PacketRecord)


cdef inline void trace(Context* c, const Packet* p, uint32_t event, uint32_t chain, uint32_t rule, uint32_t test,
                       uint32_t value) noexcept nogil:
    """One step of the walk.  The caller has looked at p.trace.  A full ring drops the record and counts it."""
    cdef TraceRecord r
    r.kind = RECORD_TRACE
    r.event = <uint8_t>event
    r.hook = c.hook
    r.table = <uint8_t>c.table
    r.serial = p.serial
    r.chain = chain
    r.rule = rule
    r.test = test
    r.value = value
    r.value2 = p.mark
    r.ctinfo = p.ctinfo if p.conn or p.ctinfo else NOT_TRACKED
    r.generation = c.program.generation
    ring_put(c.ring, &r, sizeof(TraceRecord))


cdef inline void record_packet(Context* c, const Packet* p, uint8_t kind, uint32_t rule) noexcept nogil:
    """The packet's facts and its first bytes: opens a trace (RECORD_PACKET) or is a LOG line to be (RECORD_LOG)."""
    cdef uint8_t buffer[344]    # RECORD_BYTES + CAPTURE
    cdef PacketRecord* r = <PacketRecord*>buffer
    cdef uint32_t n = p.len if p.len < CAPTURE else CAPTURE
    memset(r, 0, RECORD_BYTES)
    r.kind = kind
    r.family = p.family
    r.hook = c.hook
    r.table = <uint8_t>c.table
    r.serial = p.serial
    r.now = c.now
    r.wall = c.wall
    r.generation = c.program.generation
    r.ifin = p.ifin
    r.ifout = p.ifout
    r.physin = p.physin
    r.physout = p.physout
    r.mark = p.mark
    r.total = p.total
    r.captured = n
    r.rule = rule
    r.uid = p.uid
    r.gid = p.gid
    r.known = p.known
    r.hwlen = p.hwlen
    memcpy(r.hwaddr, p.hwaddr, 8)
    memcpy(buffer + RECORD_BYTES, p.data, n)
    ring_put(c.ring, buffer, RECORD_BYTES + n)
