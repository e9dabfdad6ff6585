"""target CONNMARK: the mark of the connection, set, saved from the packet or restored to it.  Header-only."""

from libc.stdint cimport uint8_t, uint32_t

from nfqfw._atomic cimport or8, or16
from nfqfw._conn cimport CONN_EVENT, TELL_MARK, ConnHot
from nfqfw._packet cimport DIRTY_MARK, Packet
from nfqfw._program cimport Context


cdef enum ConnmarkMode:         # XT_CONNMARK_* of the kernel
    CONNMARK_SET = 0
    CONNMARK_SAVE = 1
    CONNMARK_RESTORE = 2


cdef struct ConnmarkInfo:       # "<IIIBBB1x"
    uint32_t value
    uint32_t ctmask
    uint32_t nfmask
    uint8_t mode                # ConnmarkMode
    uint8_t right               # 1 = the shift goes to the right
    uint8_t bits                # of the shift, 0..31
    uint8_t pad


cdef inline uint32_t shifted(uint32_t mark, const ConnmarkInfo* info) noexcept nogil:
    return mark >> info.bits if info.right else mark << info.bits


cdef inline int t_CONNMARK(Packet* p, const ConnmarkInfo* info, Context* c) noexcept nogil:
    """Without a connection it does nothing.  The shift applies to the whole new mark in SET, else to what is carried over."""
    cdef ConnHot* hot
    cdef uint32_t mark
    if p.conn == 0:
        return -1
    hot = &c.conns.hot[p.conn]
    if info.mode == CONNMARK_RESTORE:
        p.mark = (p.mark & ~info.nfmask) ^ shifted(hot.mark & info.ctmask, info)
        p.dirty |= DIRTY_MARK
        return -1
    if info.mode == CONNMARK_SET:
        mark = shifted((hot.mark & ~info.ctmask) ^ info.value, info)
    else:
        mark = (hot.mark & ~info.ctmask) ^ shifted(p.mark & info.nfmask, info)
    if mark != hot.mark:
        hot.mark = mark
        or8(&hot.flags, CONN_EVENT)
        or16(&c.conns.cold[p.conn].pending, TELL_MARK)
    return -1
