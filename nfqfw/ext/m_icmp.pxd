"""match icmp, and icmp6 which differs in one corner.  Header-only."""

from libc.stdint cimport uint8_t

from nfqfw._packet cimport LATER_FRAGMENT, HAS_ICMP, Packet, has
from nfqfw._program cimport Context


cdef struct IcmpInfo:           # "<BBBB"; also of icmp6
    uint8_t type                # icmp: 255 = any
    uint8_t code[2]             # lowest, highest
    uint8_t invert


cdef inline bint readable_icmp(Packet* p, Context* c) noexcept nogil:
    """The kernel wants the whole header of 8 bytes, although it looks at 2."""
    if p.flags & LATER_FRAGMENT:
        return False
    if not (p.flags & HAS_ICMP) or not has(p, p.thoff, 8):
        c.hotdrop = 1
        return False
    return True


cdef inline bint m_icmp(Packet* p, const IcmpInfo* info, Context* c) noexcept nogil:
    if not readable_icmp(p, c):
        return False
    return (info.type == 255 or (p.icmp_type == info.type and info.code[0] <= p.icmp_code <= info.code[1])) ^ (info.invert != 0)
