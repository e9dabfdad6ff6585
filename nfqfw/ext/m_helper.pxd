"""match helper.  Header-only."""

from libc.stdint cimport uint32_t

from nfqfw._packet cimport Packet
from nfqfw._program cimport Context


cdef struct HelperInfo:         # "<II"
    uint32_t asked              # helpers that are meant, as bits 1 << number
    uint32_t invert


cdef inline bint m_helper(Packet* p, const HelperInfo* info, Context* c) noexcept nogil:
    """The helper is the master's: a connection that nobody expected has none, whatever its own is."""
    cdef uint32_t number = c.conns.cold[p.conn].master_helper if p.conn else 0
    if number == 0:
        return info.invert != 0
    return ((info.asked >> (number & 31)) & 1) ^ (info.invert != 0)
