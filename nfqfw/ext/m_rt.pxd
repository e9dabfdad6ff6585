"""match rt: the routing header of IPv6.  Header-only."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp

from nfqfw._packet cimport Packet, be32, has
from nfqfw._program cimport Context
from nfqfw.ext.headers6 cimport FOUND, HEADER_ROUTING, MALFORMED, Found6, find_header6

cdef enum RtAsked:
    RT_TYPE = 1
    RT_SEGMENTS = 2
    RT_LENGTH = 4
    RT_RESERVED = 8
    RT_ADDRESSES = 16
    RT_NOT_STRICT = 32


cdef struct RtInfo:             # "<IIIIIII" + 256s
    uint32_t type
    uint32_t segments[2]
    uint32_t length             # bytes
    uint32_t asked              # RtAsked
    uint32_t invert
    uint32_t count
    uint8_t addresses[16][16]


cdef inline bint rt_addresses(Packet* p, const RtInfo* info, uint32_t at, uint32_t length) noexcept nogil:
    """Strict: the first addresses of the header are these, and there are no others.  Else: these come in this order."""
    cdef uint32_t there = (length - 8) // 16, i, found = 0
    if info.count > there:
        return False
    if not (info.asked & RT_NOT_STRICT):
        for i in range(info.count):
            if memcmp(p.data + at + 8 + 16 * i, info.addresses[i], 16) != 0:
                return False
        return info.count == there
    for i in range(there):
        if memcmp(p.data + at + 8 + 16 * i, info.addresses[found], 16) == 0:
            found += 1
            if found == info.count:
                return True
    return False


cdef inline bint m_rt6(Packet* p, const RtInfo* info, Context* c) noexcept nogil:
    cdef uint32_t at = 0, length
    cdef Found6 found = find_header6(p, HEADER_ROUTING, &at)
    if found != FOUND or not has(p, at, 4):
        if found == MALFORMED or found == FOUND:
            c.hotdrop = 1
        return False
    length = (p.data[at + 1] + 1) * 8
    if not has(p, at, length):
        return False
    if info.asked & RT_SEGMENTS and (info.segments[0] <= p.data[at + 3] <= info.segments[1]) == ((info.invert & RT_SEGMENTS) != 0):
        return False
    if info.asked & RT_LENGTH and (info.length == length) == ((info.invert & RT_LENGTH) != 0):
        return False
    if info.asked & RT_TYPE and (info.type == p.data[at + 2]) == ((info.invert & RT_TYPE) != 0):
        return False
    if info.asked & RT_RESERVED and be32(p.data + at + 4) != 0:
        return False
    return not (info.asked & RT_ADDRESSES) or rt_addresses(p, info, at, length)
