"""matches tos and dscp: bits of the TOS or traffic class byte.  Header-only."""

from libc.stdint cimport uint8_t

from nfqfw._packet cimport Packet
from nfqfw._program cimport Context


cdef struct TosMatchInfo:       # "<BBBx"; DSCP is value << 2 under the mask 0xfc
    uint8_t value
    uint8_t mask
    uint8_t invert
    uint8_t pad


cdef inline bint m_tos(Packet* p, const TosMatchInfo* info, Context* c) noexcept nogil:
    return ((p.tos & info.mask) == info.value) != (info.invert != 0)
