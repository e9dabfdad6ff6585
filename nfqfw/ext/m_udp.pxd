"""match udp: ports.  Header-only."""

from libc.stdint cimport uint16_t, uint32_t

from nfqfw._packet cimport HAS_UDP, LATER_FRAGMENT, Packet
from nfqfw._program cimport Context


cdef struct UdpInfo:            # "<HHHHI"
    uint16_t sport[2]           # lowest, highest
    uint16_t dport[2]
    uint32_t invert             # 1 source, 2 destination


cdef inline bint m_udp(Packet* p, const UdpInfo* info, Context* c) noexcept nogil:
    if p.flags & LATER_FRAGMENT:
        return False
    if not (p.flags & HAS_UDP):
        c.hotdrop = 1
        return False
    return (((info.sport[0] <= p.sport <= info.sport[1]) ^ ((info.invert & 1) != 0))
            and ((info.dport[0] <= p.dport <= info.dport[1]) ^ ((info.invert & 2) != 0)))
