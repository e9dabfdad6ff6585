"""match connmark: the mark of the packet's connection.  Header-only."""

from libc.stdint cimport uint32_t

from nfqfw._packet cimport Packet
from nfqfw._program cimport Context
from nfqfw.ext.t_CT cimport template_mark


cdef struct ConnmarkMatchInfo:  # "<III"
    uint32_t mark
    uint32_t mask
    uint32_t invert


cdef inline bint m_connmark(Packet* p, const ConnmarkMatchInfo* info, Context* c) noexcept nogil:
    """False without a connection, also inverted (spec/iptables.md 4.3).  Behind a CT rule the raw table sees its template's."""
    cdef const uint32_t* mark = template_mark(p, c)
    if p.conn:
        mark = &c.conns.hot[p.conn].mark
    return mark != NULL and ((mark[0] & info.mask) == info.mark) != (info.invert != 0)
