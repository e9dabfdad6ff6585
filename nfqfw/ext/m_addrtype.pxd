"""match addrtype.  Header-only."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from nfqfw._host cimport ADDR_ANYCAST, ADDR_LOCAL, ADDR_MULTICAST, ADDR_UNICAST, address_type, local_address
from nfqfw._packet cimport IPV4, Packet, destination, source
from nfqfw._program cimport Context


cdef struct AddrtypeInfo:       # "<HHHH"
    uint16_t source             # 1 << RTN_*
    uint16_t destination
    uint16_t asked              # 1 source, 2 destination
    uint16_t invert


cdef inline bint is_zero6(const uint8_t* address) noexcept nogil:
    cdef uint32_t i
    for i in range(16):
        if address[i]:
            return False
    return True


cdef inline bint type_fits(Context* c, uint8_t family, const uint8_t* address, uint16_t mask) noexcept nogil:
    """IPv4: the type is one of these.  IPv6: all of what is asked holds, as the kernel has it."""
    if family == IPV4:
        return (mask >> address_type(c.host, family, address)) & 1
    if mask & (1 << ADDR_MULTICAST) and address[0] != 0xff:
        return False
    if mask & (1 << ADDR_UNICAST) and (address[0] == 0xff or is_zero6(address)):
        return False
    if mask & 1 and not is_zero6(address):
        return False
    if mask & ((1 << ADDR_LOCAL) | (1 << ADDR_ANYCAST)):
        return mask & (1 << ADDR_LOCAL) and local_address(c.host, family, address) != NULL
    return True


cdef inline bint m_addrtype(Packet* p, const AddrtypeInfo* info, Context* c) noexcept nogil:
    if info.asked & 1 and type_fits(c, p.family, source(p), info.source) == ((info.invert & 1) != 0):
        return False
    return not (info.asked & 2 and type_fits(c, p.family, destination(p), info.destination) == ((info.invert & 2) != 0))
