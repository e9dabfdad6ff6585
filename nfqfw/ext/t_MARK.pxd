"""target MARK.  Header-only."""

from libc.stdint cimport uint32_t

from nfqfw._packet cimport DIRTY_MARK, Packet
from nfqfw._program cimport Context


cdef struct MarkInfo:           # "<II"
    uint32_t value
    uint32_t mask


cdef inline int t_MARK(Packet* p, const MarkInfo* info, Context* c) noexcept nogil:
    """-1: the rule walk goes on."""
    p.mark = (p.mark & ~info.mask) ^ info.value
    p.dirty |= DIRTY_MARK
    return -1
