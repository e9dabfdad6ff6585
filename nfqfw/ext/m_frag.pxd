"""match frag: the fragment header of IPv6.  Header-only."""

from libc.stdint cimport uint16_t, uint32_t

from nfqfw._packet cimport Packet, be16, be32, has
from nfqfw._program cimport Context
from nfqfw.ext.headers6 cimport FOUND, HEADER_FRAGMENT, MALFORMED, Found6, find_header6


cdef struct FragInfo:           # "<IIII"
    uint32_t id[2]
    uint32_t invert
    uint32_t flags              # 1 reserved bits zero, 2 first, 4 more follow, 8 last


cdef inline bint m_frag6(Packet* p, const FragInfo* info, Context* c) noexcept nogil:
    cdef uint32_t at = 0
    cdef Found6 found = find_header6(p, HEADER_FRAGMENT, &at)
    cdef uint16_t offset
    if found != FOUND or not has(p, at, 8):
        if found == MALFORMED or found == FOUND:
            c.hotdrop = 1
        return False
    offset = be16(p.data + at + 2)
    if not ((info.id[0] <= be32(p.data + at + 4) <= info.id[1]) ^ (info.invert != 0)):
        return False
    if info.flags & 1 and (p.data[at + 1] or offset & 6):
        return False
    if info.flags & 2 and offset & 0xfff8:
        return False
    if info.flags & 4 and not (offset & 1):
        return False
    return not (info.flags & 8 and offset & 1)
