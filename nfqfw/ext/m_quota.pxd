"""match quota.  Header-only."""

from libc.stdint cimport uint32_t, uint64_t

from nfqfw._packet cimport Packet
from nfqfw._program cimport Context
from nfqfw.ext.m_limit cimport load64, swap64


cdef struct QuotaInfo:          # "<I"
    uint32_t invert


cdef inline bint m_quota(Packet* p, const QuotaInfo* info, Context* c, void* state) noexcept nogil:
    """State: bytes left.  A packet that does not fit ends it for good."""
    cdef uint64_t* at = <uint64_t*>state
    cdef uint64_t left = load64(at)
    cdef bint fits
    while True:
        fits = left >= p.total
        if swap64(at, &left, left - p.total if fits else 0):
            return fits ^ (info.invert != 0)
