"""match connlabel.  Header-only."""

from libc.stdint cimport uint8_t, uint16_t, uint64_t

from nfqfw._atomic cimport or8, or16
from nfqfw._conn cimport CONN_EVENT, TELL_LABEL, has_label, labels_of
from nfqfw._packet cimport Packet
from nfqfw._program cimport Context

cdef extern from *:
    """
    static inline void nfqfw_or64(uint64_t *at, uint64_t bits) { __atomic_fetch_or(at, bits, __ATOMIC_RELAXED); }
    """
    void or64 "nfqfw_or64"(uint64_t* at, uint64_t bits) noexcept nogil


cdef struct ConnlabelInfo:      # "<HBB"
    uint16_t label              # 0 .. 127
    uint8_t put                 # --set
    uint8_t invert


cdef inline bint m_connlabel(Packet* p, const ConnlabelInfo* info, Context* c) noexcept nogil:
    """No connection: as if the label were not there."""
    if p.conn == 0:
        return info.invert != 0
    if has_label(c.conns, p.conn, info.label):
        return not info.invert
    if info.put:
        or64(&labels_of(c.conns, p.conn).bits[info.label >> 6], <uint64_t>1 << (info.label & 63))
        or8(&c.conns.hot[p.conn].flags, CONN_EVENT)
        or16(&c.conns.cold[p.conn].pending, TELL_LABEL)
        return not info.invert
    return info.invert != 0
