"""target TCPOPTSTRIP: overwrite TCP options with no-operations.  Header-only."""

from libc.stdint cimport uint8_t, uint32_t

from nfqfw._packet cimport DROP, HAS_TCP, IS_FRAGMENT, LATER_FRAGMENT, REASON_MALFORMED, Packet
from nfqfw._program cimport Context
from nfqfw._rewrite cimport tcp_put8, writable


cdef struct TcpOptStripInfo:    # "<8I"
    uint32_t bits[8]            # bit n % 32 of word n / 32: strip option n


cdef inline uint32_t option_length(const uint8_t* option, uint32_t left) noexcept nogil:
    """Length of the option at hand; end, no-operation and what has no valid length byte count as one."""
    if option[0] <= 1 or left < 2 or option[1] == 0:
        return 1
    return option[1]


cdef inline int t_TCPOPTSTRIP(Packet* p, const TcpOptStripInfo* info, Context* c) noexcept nogil:
    cdef uint32_t size, at, n, i
    cdef uint8_t kind
    if p.flags & LATER_FRAGMENT:
        return -1
    if not p.flags & HAS_TCP:
        p.reason = REASON_MALFORMED
        return DROP
    size = (p.data[p.thoff + 12] >> 4) * 4
    if size < 20 or p.len < p.thoff + size:
        p.reason = REASON_MALFORMED
        return DROP
    at = 20
    while at + 1 < size:                    # an option in the last byte is not looked at: the kernel does not either
        kind = p.data[p.thoff + at]
        n = option_length(p.data + p.thoff + at, size - at)
        if at + n > size:
            break
        if info.bits[kind >> 5] >> (kind & 31) & 1:
            if not writable(p):
                return DROP
            for i in range(n):
                tcp_put8(p, p.thoff + at + i, 1)
        at += n
    return -1
