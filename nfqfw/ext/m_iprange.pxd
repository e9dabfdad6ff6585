"""match iprange.  Header-only."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp

from nfqfw._packet cimport IPV4, Packet, destination, source
from nfqfw._program cimport Context


cdef struct IprangeInfo:        # "<16s16s16s16sII"
    uint8_t ends[2][2][16]      # [source, destination][first, last], wire order, IPv4 in the first 4 bytes
    uint32_t asked              # 1 source, 2 destination
    uint32_t invert


cdef inline bint m_iprange(Packet* p, const IprangeInfo* info, Context* c) noexcept nogil:
    cdef uint32_t n = 4 if p.family == IPV4 else 16
    cdef bint inside
    if info.asked & 1:
        inside = memcmp(source(p), info.ends[0][0], n) >= 0 and memcmp(source(p), info.ends[0][1], n) <= 0
        if inside == ((info.invert & 1) != 0):
            return False
    if info.asked & 2:
        inside = memcmp(destination(p), info.ends[1][0], n) >= 0 and memcmp(destination(p), info.ends[1][1], n) <= 0
        if inside == ((info.invert & 2) != 0):
            return False
    return True
