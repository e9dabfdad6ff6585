"""match multiport: up to 15 ports or ranges.  Header-only."""

from libc.stdint cimport uint8_t, uint16_t

from nfqfw._packet cimport HAS_PORTS, LATER_FRAGMENT, Packet
from nfqfw._program cimport Context


cdef enum MultiportSide:
    MULTIPORT_SOURCE = 1
    MULTIPORT_DESTINATION = 2
    MULTIPORT_EITHER = 3


cdef struct MultiportInfo:      # "<BBBB30H"
    uint8_t side                # MultiportSide
    uint8_t count               # ranges used
    uint8_t invert
    uint8_t pad
    uint16_t ports[30]          # lowest, highest of each


cdef inline bint m_multiport(Packet* p, const MultiportInfo* info, Context* c) noexcept nogil:
    """A fragment is no match even when inverted."""
    cdef uint8_t i
    if p.flags & LATER_FRAGMENT:
        return False
    if not (p.flags & HAS_PORTS):
        c.hotdrop = 1
        return False
    for i in range(info.count):
        if (info.side & MULTIPORT_SOURCE) and info.ports[2 * i] <= p.sport <= info.ports[2 * i + 1]:
            return not info.invert
        if (info.side & MULTIPORT_DESTINATION) and info.ports[2 * i] <= p.dport <= info.ports[2 * i + 1]:
            return not info.invert
    return info.invert != 0
