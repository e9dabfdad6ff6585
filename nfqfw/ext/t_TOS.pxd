"""targets TOS and DSCP: change bits of the TOS or traffic class byte.  Header-only."""

from libc.stdint cimport uint8_t

from nfqfw._packet cimport DROP, Packet
from nfqfw._program cimport Context
from nfqfw._rewrite cimport put_tos


cdef struct TosInfo:            # "<BB2x"; DSCP is value << 2 under the mask 0xfc
    uint8_t value
    uint8_t mask
    uint8_t pad[2]


cdef inline int t_TOS(Packet* p, const TosInfo* info, Context* c) noexcept nogil:
    cdef uint8_t tos = (p.tos & ~info.mask) ^ info.value
    if tos == p.tos:
        return -1
    return -1 if put_tos(p, tos) else DROP
