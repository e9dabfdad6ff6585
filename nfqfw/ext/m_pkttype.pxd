"""match pkttype: concluded from the destination address, since NFQUEUE does not tell.  Header-only."""

from libc.stdint cimport uint32_t

from nfqfw._host cimport ADDR_BROADCAST, ADDR_MULTICAST, address_type
from nfqfw._packet cimport Packet, destination
from nfqfw._program cimport Context


cdef struct PkttypeInfo:        # "<II"
    uint32_t type               # 0 host, 1 broadcast, 2 multicast, 3 another host
    uint32_t invert


cdef inline bint m_pkttype(Packet* p, const PkttypeInfo* info, Context* c) noexcept nogil:
    cdef uint32_t kind = address_type(c.host, p.family, destination(p))
    cdef uint32_t found = 2 if kind == ADDR_MULTICAST else 1 if kind == ADDR_BROADCAST else 0
    return (found == info.type) ^ (info.invert != 0)
