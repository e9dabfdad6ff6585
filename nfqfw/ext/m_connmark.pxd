"""match connmark: the mark of the packet's connection.  Header-only."""

from libc.stdint cimport uint32_t

from nfqfw._packet cimport Packet
from nfqfw._program cimport RAW, Context


cdef struct ConnmarkMatchInfo:  # "<III"
    uint32_t mark
    uint32_t mask
    uint32_t invert


cdef inline bint m_connmark(Packet* p, const ConnmarkMatchInfo* info, Context* c) noexcept nogil:
    """False without a connection, also inverted (spec/iptables.md 4.3).  Behind a CT rule the raw table sees its template: mark 0."""
    if p.conn == 0:
        return c.table == RAW and p.ct_template and (info.mark == 0) != (info.invert != 0)
    return ((c.conns.hot[p.conn].mark & info.mask) == info.mark) != (info.invert != 0)
