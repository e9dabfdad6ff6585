"""Conntrack as a queue thread uses it.  Life-cycle, locking and the meaning of each call: `_conntrack.pyx`; its memory: `conntrack/table.pxd`."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t

from nfqfw._conn cimport Tuple
from nfqfw._packet cimport Packet
from nfqfw._program cimport Context
from nfqfw.conntrack._entries cimport EntryTable
from nfqfw.conntrack.table cimport Conntrack


cdef bint packet_tuple(const Packet* p, Tuple* out) noexcept nogil
cdef bint invert_tuple(const Tuple* tuple, Tuple* out) noexcept nogil
cdef uint64_t conntrack_path_numbers(Conntrack* t, uint32_t n) noexcept nogil
cdef void conntrack_remember(Conntrack* t, uint32_t conn, uint32_t life, uint32_t direction, uint32_t path) noexcept nogil
cdef void conntrack_prefetch_bucket(Conntrack* t, Packet* p) noexcept nogil
cdef uint32_t conntrack_prefetch_entry(Conntrack* t, const Packet* p) noexcept nogil
cdef void conntrack_prefetch_more(Conntrack* t, const Packet* p, uint32_t conn) noexcept nogil
cdef void conntrack_in(Conntrack* t, Packet* p, uint64_t now_ns, Context* c) noexcept nogil
cdef int conntrack_confirm(Conntrack* t, Packet* p, uint64_t now_ns) noexcept nogil
cdef void conntrack_hold(Conntrack* t, uint32_t conn) noexcept nogil
cdef void conntrack_release(Conntrack* t, uint32_t conn) noexcept nogil
cdef void conntrack_close(Conntrack* t, uint32_t conn, uint64_t now_ns) noexcept nogil
cdef uint32_t conntrack_lookup(Conntrack* t, const Tuple* tuple, uint32_t ignored, uint64_t now_ns, uint32_t* direction) noexcept nogil
cdef bint conntrack_tuple_taken(Conntrack* t, const Tuple* tuple, uint32_t ignored, uint64_t now_ns) noexcept nogil
cdef void conntrack_set_status(Conntrack* t, uint32_t conn, uint32_t bits) noexcept nogil
cdef bint conntrack_alter_reply(Conntrack* t, uint32_t conn, const Tuple* reply) noexcept nogil
cdef void conntrack_expire(Conntrack* t, uint64_t now_ns, uint32_t budget) noexcept nogil
cdef void conntrack_kill(Conntrack* t, uint32_t conn) noexcept nogil


cdef class ConntrackTable(EntryTable):
    pass
