"""match physdev: bridge ports.  Header-only."""

from libc.stdint cimport uint32_t

from nfqfw._host cimport Interface, interface_by_index
from nfqfw._packet cimport Packet
from nfqfw._program cimport Context
from nfqfw.ext.rule cimport InterfaceInfo, same_interface

cdef enum PhysdevAsked:
    PHYSDEV_IN = 1
    PHYSDEV_OUT = 2
    PHYSDEV_BRIDGED = 4
    PHYSDEV_IS_IN = 8
    PHYSDEV_IS_OUT = 16


cdef struct PhysdevInfo:        # InterfaceInfo x 2 + "<II"
    InterfaceInfo port[2]       # in, out; their invert is 0
    uint32_t asked              # PhysdevAsked
    uint32_t invert


cdef inline bint differs(const PhysdevInfo* info, uint32_t what, bint truth) noexcept nogil:
    return (info.asked & what) and truth == ((info.invert & what) != 0)


cdef inline bint m_physdev(Packet* p, const PhysdevInfo* info, Context* c) noexcept nogil:
    """A packet that has nothing to do with a bridge is a match if all options given are inverted."""
    cdef const Interface* out
    if p.physin == 0 and p.physout == 0:
        return info.asked == (info.asked & info.invert)
    if differs(info, PHYSDEV_BRIDGED, p.physout != 0) or differs(info, PHYSDEV_IS_IN, p.physin != 0) \
            or differs(info, PHYSDEV_IS_OUT, p.physout != 0):
        return False
    if p.physin and differs(info, PHYSDEV_IN, same_interface(interface_by_index(c.host, p.physin), &info.port[0])):
        return False
    if not p.physout:
        return True
    out = interface_by_index(c.host, p.physout)
    return not differs(info, PHYSDEV_OUT, same_interface(out, &info.port[1]))
