"""match devgroup.  Header-only."""

from libc.stdint cimport uint32_t

from nfqfw._packet cimport Packet
from nfqfw._program cimport Context


cdef struct DevgroupInfo:       # "<IIIIII"
    uint32_t source[2]          # value, mask
    uint32_t destination[2]
    uint32_t asked              # 1 source, 2 destination
    uint32_t invert


cdef inline bint m_devgroup(Packet* p, const DevgroupInfo* info, Context* c) noexcept nogil:
    if info.asked & 1 and (c.iif == NULL or (((info.source[0] ^ c.iif.group) & info.source[1]) == 0) == ((info.invert & 1) != 0)):
        return False
    return not (info.asked & 2 and (c.oif == NULL or (((info.destination[0] ^ c.oif.group) & info.destination[1]) == 0)
                                    == ((info.invert & 2) != 0)))
