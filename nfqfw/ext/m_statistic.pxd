"""match statistic.  Header-only."""

from libc.stdint cimport uint32_t, uint64_t

from nfqfw._packet cimport Packet
from nfqfw._program cimport Context, random32
from nfqfw.ext.m_limit cimport load64, swap64


cdef struct StatisticInfo:      # "<IIII"
    uint32_t nth                # 0 random, 1 nth
    uint32_t probability        # of 2^31
    uint32_t every              # n - 1
    uint32_t invert


cdef inline bint m_statistic(Packet* p, const StatisticInfo* info, Context* c, void* state) noexcept nogil:
    """State: packets since the last match; shared by queue threads."""
    cdef uint64_t* at = <uint64_t*>state
    cdef uint64_t old, new
    if not info.nth:
        return ((random32(c) & 0x7fffffff) < info.probability) ^ (info.invert != 0)
    old = load64(at)
    while True:
        new = 0 if old == info.every else old + 1
        if swap64(at, &old, new):
            return (new == 0) ^ (info.invert != 0)
