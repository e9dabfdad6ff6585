"""match mark.  Header-only."""

from libc.stdint cimport uint32_t

from nfqfw._packet cimport Packet
from nfqfw._program cimport Context


cdef struct MarkMatchInfo:      # "<III"
    uint32_t mark
    uint32_t mask
    uint32_t invert


cdef inline bint m_mark(Packet* p, const MarkMatchInfo* info, Context* c) noexcept nogil:
    return ((p.mark & info.mask) == info.mark) ^ (info.invert != 0)
