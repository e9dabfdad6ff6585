"""matches mac and eui64: the frame's source address.  Header-only."""

from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcmp

from nfqfw._packet cimport KNOWN_HWADDR, Packet, source
from nfqfw._program cimport Context

cdef enum:
    ARPHRD_ETHER = 1


cdef struct MacInfo:            # "<6sH"
    uint8_t address[6]
    uint16_t invert


cdef inline bint is_ethernet(Packet* p, Context* c) noexcept nogil:
    return c.iif != NULL and c.iif.type == ARPHRD_ETHER and (p.known & KNOWN_HWADDR) and p.hwlen == 6


cdef inline bint m_mac(Packet* p, const MacInfo* info, Context* c) noexcept nogil:
    """Another kind of link is no match even when inverted."""
    if not is_ethernet(p, c):
        return False
    return (memcmp(p.hwaddr, info.address, 6) == 0) ^ (info.invert != 0)


cdef inline bint m_eui64(Packet* p, const void* info, Context* c) noexcept nogil:
    """RFC 4291 appendix A: ff fe in the middle, the universal bit turned round."""
    cdef uint8_t wanted[8]
    if not is_ethernet(p, c):
        return False
    wanted[0] = p.hwaddr[0] ^ 2
    wanted[1] = p.hwaddr[1]
    wanted[2] = p.hwaddr[2]
    wanted[3] = 0xff
    wanted[4] = 0xfe
    wanted[5] = p.hwaddr[3]
    wanted[6] = p.hwaddr[4]
    wanted[7] = p.hwaddr[5]
    return memcmp(source(p) + 8, wanted, 8) == 0
