"""targets TTL and HL: set, increment or decrement the hop count.  Header-only."""

from libc.stdint cimport int32_t, uint8_t

from nfqfw._packet cimport DROP, Packet
from nfqfw._program cimport Context
from nfqfw._rewrite cimport put_ttl


cdef enum TtlMode:
    TTL_SET = 0
    TTL_INC = 1
    TTL_DEC = 2


cdef struct TtlInfo:            # "<BB2x"
    uint8_t mode
    uint8_t value
    uint8_t pad[2]


cdef inline int t_TTL(Packet* p, const TtlInfo* info, Context* c) noexcept nogil:
    """Saturates at 0 and 255; 0 is no reason to drop (spec/iptables.md 4.7)."""
    cdef int32_t ttl = info.value
    if info.mode == TTL_INC:
        ttl = p.ttl + <int32_t>info.value
    elif info.mode == TTL_DEC:
        ttl = p.ttl - <int32_t>info.value
    ttl = 255 if ttl > 255 else 0 if ttl < 0 else ttl
    if ttl == p.ttl:
        return -1
    return -1 if put_ttl(p, <uint8_t>ttl) else DROP
