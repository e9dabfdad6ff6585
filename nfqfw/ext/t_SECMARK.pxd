"""targets SECMARK and CONNSECMARK: the security label of the packet, and of its connection.  Header-only.

The label is a number here (ext/t_SECMARK.py gives each context its own); it stays inside nfqfw.
"""

from libc.stdint cimport uint8_t, uint32_t

from nfqfw._atomic cimport or8, or16
from nfqfw._conn cimport CONN_EVENT, TELL_SECMARK
from nfqfw._packet cimport Packet
from nfqfw._program cimport Context


cdef struct SecmarkInfo:        # "<I"
    uint32_t secmark


cdef struct ConnsecmarkInfo:    # "<B3x"
    uint8_t restore             # 0 = save: packet to connection
    uint8_t pad[3]


cdef inline int t_SECMARK(Packet* p, const SecmarkInfo* info, Context* c) noexcept nogil:
    p.secmark = info.secmark
    return -1


cdef inline int t_CONNSECMARK(Packet* p, const ConnsecmarkInfo* info, Context* c) noexcept nogil:
    """Each way only where there is a label and none yet on the other side, as the kernel does."""
    if p.conn == 0:
        return -1
    if info.restore:
        if p.secmark == 0:
            p.secmark = c.conns.cold[p.conn].secmark
    elif p.secmark and c.conns.cold[p.conn].secmark == 0:
        c.conns.cold[p.conn].secmark = p.secmark
        or8(&c.conns.hot[p.conn].flags, CONN_EVENT)
        or16(&c.conns.cold[p.conn].pending, TELL_SECMARK)
    return -1
