"""match dccp (RFC 4340).  Header-only."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from nfqfw._packet cimport Packet, be16, has
from nfqfw._program cimport Context
from nfqfw.ext.m_esp cimport readable


cdef struct DccpInfo:           # "<4HHBBBBH"
    uint16_t sport[2]
    uint16_t dport[2]
    uint16_t types              # bit of each packet type
    uint8_t option
    uint8_t invert              # 1 sport, 2 dport, 4 types, 8 option
    uint8_t asked               # 4 types, 8 option
    uint8_t pad
    uint16_t pad2


cdef inline uint32_t dccp_header_length(const Packet* p) noexcept nogil:
    """Fixed part of the header, of which 12 bytes are there: longer with long sequence numbers, and by packet type."""
    cdef uint8_t kind = (p.data[p.thoff + 8] >> 1) & 15
    cdef uint32_t n = 16 if p.data[p.thoff + 8] & 1 else 12
    if kind == 0:                       # REQUEST: service code
        return n + 4
    if kind == 1 or kind == 7 or kind > 9:      # RESPONSE, RESET, what nobody knows: acknowledgement and 4 bytes
        return n + 12
    return n if kind == 2 else n + 8    # DATA has none, all others acknowledge


cdef inline bint has_dccp_option(Packet* p, uint8_t wanted, Context* c) noexcept nogil:
    cdef uint32_t fixed = dccp_header_length(p), whole = <uint32_t>p.data[p.thoff + 4] * 4
    cdef uint32_t at = p.thoff + fixed, n, i = 0
    cdef uint8_t length
    if whole < fixed:
        c.hotdrop = 1
        return False
    n = whole - fixed
    if n == 0:
        return False
    if not has(p, at, n):
        c.hotdrop = 1
        return False
    while i < n:
        if p.data[at + i] == wanted:
            return True
        if p.data[at + i] < 2:
            i += 1
        else:
            length = p.data[at + i + 1] if i + 1 < n else 0
            i += length if length else 1
    return False


cdef inline bint m_dccp(Packet* p, const DccpInfo* info, Context* c) noexcept nogil:
    cdef uint16_t sport, dport
    if not readable(p, 12, c):
        return False
    sport = be16(p.data + p.thoff)
    dport = be16(p.data + p.thoff + 2)
    if not ((info.sport[0] <= sport <= info.sport[1]) ^ ((info.invert & 1) != 0)):
        return False
    if not ((info.dport[0] <= dport <= info.dport[1]) ^ ((info.invert & 2) != 0)):
        return False
    if info.asked & 4 and ((info.types >> ((p.data[p.thoff + 8] >> 1) & 15)) & 1) == ((info.invert & 4) != 0):
        return False
    if info.asked & 8 and has_dccp_option(p, info.option, c) == ((info.invert & 8) != 0):
        return False
    return True
