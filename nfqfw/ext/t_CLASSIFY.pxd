"""target CLASSIFY: the packet's priority, which is the class of the queueing discipline.  Header-only."""

from libc.stdint cimport uint32_t

from nfqfw._packet cimport DIRTY_PRIORITY, Packet
from nfqfw._program cimport Context


cdef struct ClassifyInfo:       # "<I"
    uint32_t priority           # major << 16 | minor


cdef inline int t_CLASSIFY(Packet* p, const ClassifyInfo* info, Context* c) noexcept nogil:
    p.priority = info.priority
    p.dirty |= DIRTY_PRIORITY
    return -1
