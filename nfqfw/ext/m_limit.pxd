"""match limit: a token bucket per rule.  Header-only.

Counts in jiffies of 4 ms (HZ 250) and in the kernel's credits, so that the same packets pass at the same times.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from nfqfw._atomic cimport load64
from nfqfw._packet cimport Packet
from nfqfw._program cimport Context

cdef extern from *:
    """
    static inline int nfqfw_limit_swap64(uint64_t *at, uint64_t *expected, uint64_t wanted) {
        return __atomic_compare_exchange_n(at, expected, wanted, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    }
    """
    bint swap64 "nfqfw_limit_swap64"(uint64_t* at, uint64_t* expected, uint64_t wanted) noexcept nogil


cdef enum:
    JIFFY_NS = 4000000
    CREDITS_PER_JIFFY = 128


cdef struct LimitInfo:          # "<II"
    uint32_t cost               # credits a packet costs
    uint32_t cap                # credits the bucket holds


cdef struct LimitState:         # "<Q": low half credits, high half the jiffy of the last packet
    uint64_t word


cdef inline bint m_limit(Packet* p, const LimitInfo* info, Context* c, void* state) noexcept nogil:
    """One word, swapped as a whole: queue threads share the bucket."""
    cdef uint64_t* at = &(<LimitState*>state).word
    cdef uint64_t old = load64(at)
    cdef uint32_t jiffies = <uint32_t>(c.now // JIFFY_NS)
    cdef uint64_t credit
    cdef bint passed
    while True:
        credit = (old & <uint64_t>0xffffffffU) + <uint64_t>(<uint32_t>(jiffies - <uint32_t>(old >> 32))) * CREDITS_PER_JIFFY
        if credit > info.cap:
            credit = info.cap
        passed = credit >= info.cost
        if passed:
            credit -= info.cost
        if swap64(at, &old, (<uint64_t>jiffies << 32) | credit):
            return passed
