"""matches ttl and hl: the hop count.  Header-only."""

from libc.stdint cimport uint8_t

from nfqfw._packet cimport Packet
from nfqfw._program cimport Context


cdef enum TtlTest:              # IPT_TTL_* of the kernel
    TTL_EQ = 0
    TTL_NE = 1
    TTL_LT = 2
    TTL_GT = 3


cdef struct TtlMatchInfo:       # "<BB2x"
    uint8_t mode
    uint8_t value
    uint8_t pad[2]


cdef inline bint m_ttl(Packet* p, const TtlMatchInfo* info, Context* c) noexcept nogil:
    if info.mode == TTL_EQ:
        return p.ttl == info.value
    if info.mode == TTL_NE:
        return p.ttl != info.value
    return p.ttl < info.value if info.mode == TTL_LT else p.ttl > info.value
