"""target CONNMARK: the mark of the connection, set, saved from the packet or restored to it.  Header-only."""

from libc.stdint cimport uint8_t, uint32_t

from nfqfw._atomic cimport or8, or16
from nfqfw._conn cimport CONN_EVENT, TELL_MARK
from nfqfw._packet cimport DIRTY_MARK, Packet
from nfqfw._program cimport Context
from nfqfw.ext.t_CT cimport template_mark


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
    """Without a connection, or a template in the raw table, it does nothing.

    The shift applies to the whole new mark in SET, else to what is carried over.
    """
    cdef uint32_t* at = &c.conns.hot[p.conn].mark if p.conn else template_mark(p, c)
    cdef uint32_t old, mark
    if at == NULL:
        return -1
    old = at[0]
    if info.mode == CONNMARK_RESTORE:
        p.mark = (p.mark & ~info.nfmask) ^ shifted(old & info.ctmask, info)
        p.dirty |= DIRTY_MARK
        return -1
    if info.mode == CONNMARK_SET:
        mark = shifted((old & ~info.ctmask) ^ info.value, info)
    else:
        mark = (old & ~info.ctmask) ^ shifted(p.mark & info.nfmask, info)
    if mark == old:
        return -1
    at[0] = mark
    if p.conn:
        or8(&c.conns.hot[p.conn].flags, CONN_EVENT)
        or16(&c.conns.cold[p.conn].pending, TELL_MARK)
    return -1
