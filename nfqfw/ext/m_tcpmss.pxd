"""match tcpmss.  Header-only.  The kernel does not ask whether this is a later fragment (spec/iptables.md, table 1)."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from nfqfw._packet cimport IPV4, LATER_FRAGMENT, Packet, be16, has
from nfqfw._program cimport Context


cdef struct TcpmssInfo:         # "<HHI"
    uint16_t low
    uint16_t high
    uint32_t invert


cdef inline bint m_tcpmss(Packet* p, const TcpmssInfo* info, Context* c) noexcept nogil:
    cdef uint32_t at = p.thoff
    cdef uint32_t n, i = 0
    cdef uint8_t kind, length
    if p.family == IPV4 and (p.flags & LATER_FRAGMENT):
        at = (p.data[0] & 15) * 4
    if not has(p, at, 20):
        c.hotdrop = 1
        return False
    n = (p.data[at + 12] >> 4) * 4
    if n < 20 or not has(p, at, n):
        c.hotdrop = 1
        return False
    at += 20
    n -= 20
    while i < n:
        kind = p.data[at + i]
        if kind == 2 and n - i >= 4 and p.data[at + i + 1] == 4:
            return (info.low <= be16(p.data + at + i + 2) <= info.high) ^ (info.invert != 0)
        if kind < 2:
            i += 1
        else:
            length = p.data[at + i + 1] if i + 1 < n else 0
            i += length if length else 1
    return info.invert != 0
