"""match ah of IPv6, where it is an extension header.  Header-only."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from nfqfw._packet cimport Packet, be16, be32, has
from nfqfw._program cimport Context
from nfqfw.ext.headers6 cimport FOUND, HEADER_AUTH, MALFORMED, Found6, find_header6


cdef struct Ah6Info:            # "<IIIBBH"
    uint32_t spi[2]
    uint32_t length             # bytes, 0 = not asked
    uint8_t invert              # 1 spi, 2 length
    uint8_t reserved            # 1 = the reserved field must be zero
    uint16_t pad


cdef inline bint m_ah6(Packet* p, const Ah6Info* info, Context* c) noexcept nogil:
    """A header that is cut, or says that it is longer than the packet, is a hotdrop."""
    cdef uint32_t at = 0
    cdef Found6 found = find_header6(p, HEADER_AUTH, &at)
    if found != FOUND or not has(p, at, 12) or not has(p, at, <uint32_t>(p.data[at + 1] + 2) * 4):
        if found == MALFORMED or found == FOUND:
            c.hotdrop = 1
        return False
    if not ((info.spi[0] <= be32(p.data + at + 4) <= info.spi[1]) ^ ((info.invert & 1) != 0)):
        return False
    if info.length and not ((info.length == <uint32_t>(p.data[at + 1] + 2) * 4) ^ ((info.invert & 2) != 0)):
        return False
    return not (info.reserved and be16(p.data + at + 2))
