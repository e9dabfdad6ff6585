"""match tcp: ports, flags, one option.  Header-only."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from nfqfw._packet cimport HAS_TCP, IPV4, LATER_FRAGMENT, Packet, has
from nfqfw._program cimport Context


cdef struct TcpInfo:            # "<HHHHBBBB"
    uint16_t sport[2]           # lowest, highest
    uint16_t dport[2]
    uint8_t option              # 0 = none asked
    uint8_t mask                # of byte 13
    uint8_t flags
    uint8_t invert              # TcpInvert


cdef enum TcpInvert:
    TCP_NOT_SPORT = 1
    TCP_NOT_DPORT = 2
    TCP_NOT_FLAGS = 4
    TCP_NOT_OPTION = 8


cdef inline bint has_tcp_option(Packet* p, uint8_t wanted, bint invert, Context* c) noexcept nogil:
    """Walks the options as the kernel does: kinds 0 and 1 are one byte, a length of 0 counts as 1, no end at kind 0."""
    cdef uint32_t at = p.thoff + 20
    cdef uint32_t n = (p.data[p.thoff + 12] >> 4) * 4
    cdef uint32_t i = 0
    cdef uint8_t kind, length
    if n < 20:
        c.hotdrop = 1
        return False
    n -= 20
    if n == 0:
        return invert
    if not has(p, at, n):
        c.hotdrop = 1
        return False
    while i < n:
        kind = p.data[at + i]
        if kind == wanted:
            return not invert
        if kind < 2:
            i += 1
        else:
            length = p.data[at + i + 1] if i + 1 < n else 0
            i += length if length else 1
    return invert


cdef inline bint m_tcp(Packet* p, const TcpInfo* info, Context* c) noexcept nogil:
    if p.flags & LATER_FRAGMENT:
        if p.fragoff == 1 and p.family == IPV4:     # would overwrite the first's flags: RFC 3128; IPv6 counts bytes, never 1
            c.hotdrop = 1
        return False
    if not (p.flags & HAS_TCP):
        c.hotdrop = 1
        return False
    if not ((info.sport[0] <= p.sport <= info.sport[1]) ^ ((info.invert & TCP_NOT_SPORT) != 0)):
        return False
    if not ((info.dport[0] <= p.dport <= info.dport[1]) ^ ((info.invert & TCP_NOT_DPORT) != 0)):
        return False
    if not (((p.tcp_flags & info.mask) == info.flags) ^ ((info.invert & TCP_NOT_FLAGS) != 0)):
        return False
    if info.option:
        return has_tcp_option(p, info.option, (info.invert & TCP_NOT_OPTION) != 0, c)
    return True
