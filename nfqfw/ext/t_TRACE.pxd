"""target TRACE: the rest of the packet's walk is recorded.  Header-only."""

from nfqfw._packet cimport Packet
from nfqfw._program cimport Context


cdef inline int t_TRACE(Packet* p, const void* info, Context* c) noexcept nogil:
    p.trace = 1
    return -1
