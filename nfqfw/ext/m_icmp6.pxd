"""match icmp6: type and code.  Header-only."""

from nfqfw._packet cimport Packet
from nfqfw._program cimport Context
from nfqfw.ext.m_icmp cimport IcmpInfo, readable_icmp


cdef inline bint m_icmp6(Packet* p, const IcmpInfo* info, Context* c) noexcept nogil:
    if not readable_icmp(p, c):
        return False
    return (p.icmp_type == info.type and info.code[0] <= p.icmp_code <= info.code[1]) ^ (info.invert != 0)
