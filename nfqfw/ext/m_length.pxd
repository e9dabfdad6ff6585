"""match length.  Header-only."""

from libc.stdint cimport uint16_t, uint32_t

from nfqfw._packet cimport IPV4, Packet
from nfqfw._program cimport Context


cdef struct LengthInfo:         # "<HHI"
    uint16_t low
    uint16_t high
    uint32_t invert


cdef inline bint m_length(Packet* p, const LengthInfo* info, Context* c) noexcept nogil:
    """IPv4: what the header says; IPv6: the packet's bytes, header included."""
    cdef uint32_t length = p.l3_len if p.family == IPV4 else p.total
    return (info.low <= length <= info.high) ^ (info.invert != 0)
