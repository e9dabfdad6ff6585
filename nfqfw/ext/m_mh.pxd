"""match mh: the type of a mobility header (RFC 6275).  Header-only."""

from libc.stdint cimport uint8_t

from nfqfw._packet cimport Packet
from nfqfw._program cimport Context
from nfqfw.ext.headers6 cimport HEADER_NONE
from nfqfw.ext.m_esp cimport readable


cdef struct MhInfo:             # "<BBBB"
    uint8_t type[2]             # lowest, highest
    uint8_t invert
    uint8_t pad


cdef inline bint m_mh6(Packet* p, const MhInfo* info, Context* c) noexcept nogil:
    if not readable(p, 6, c):
        return False
    if p.data[p.thoff] != HEADER_NONE:
        c.hotdrop = 1
        return False
    return (info.type[0] <= p.data[p.thoff + 2] <= info.type[1]) ^ (info.invert != 0)
