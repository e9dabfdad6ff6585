"""matches esp, ipcomp and ah of IPv4: the index in the header.  Header-only."""

from libc.stdint cimport uint32_t

from nfqfw._packet cimport HAS_L4, LATER_FRAGMENT, Packet, be16, be32, has
from nfqfw._program cimport Context


cdef struct SpiInfo:            # "<III"
    uint32_t spi[2]             # lowest, highest
    uint32_t invert


cdef inline bint readable(Packet* p, uint32_t n, Context* c) noexcept nogil:
    """First fragment, n bytes of it there; a shorter one is a hotdrop."""
    if p.flags & LATER_FRAGMENT:
        return False
    if not (p.flags & HAS_L4) or not has(p, p.thoff, n):
        c.hotdrop = 1
        return False
    return True


cdef inline bint spi_fits(uint32_t spi, const SpiInfo* info) noexcept nogil:
    return (info.spi[0] <= spi <= info.spi[1]) ^ (info.invert != 0)


cdef inline bint m_esp(Packet* p, const SpiInfo* info, Context* c) noexcept nogil:
    return readable(p, 8, c) and spi_fits(be32(p.data + p.thoff), info)


cdef inline bint m_ah(Packet* p, const SpiInfo* info, Context* c) noexcept nogil:
    return readable(p, 12, c) and spi_fits(be32(p.data + p.thoff + 4), info)


cdef inline bint m_ipcomp(Packet* p, const SpiInfo* info, Context* c) noexcept nogil:
    return readable(p, 4, c) and spi_fits(be16(p.data + p.thoff + 2), info)
