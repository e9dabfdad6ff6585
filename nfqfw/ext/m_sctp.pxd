"""match sctp (RFC 9260).  Header-only."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from nfqfw._packet cimport Packet, be16, has
from nfqfw._program cimport Context
from nfqfw.ext.m_esp cimport readable

cdef enum SctpMode:
    SCTP_ANY = 0
    SCTP_ALL = 1
    SCTP_ONLY = 2


cdef struct SctpInfo:           # "<4HBBBB" + 32s + 16s
    uint16_t sport[2]
    uint16_t dport[2]
    uint8_t chunks_asked
    uint8_t mode                # SctpMode
    uint8_t invert              # 1 sport, 2 dport, 4 chunks
    uint8_t n_flags
    uint8_t chunks[32]          # bit of each chunk type
    uint8_t flags[4][4]         # type, mask, flags, 0


cdef inline bint flags_fit(const SctpInfo* info, uint8_t kind, uint8_t flags) noexcept nogil:
    cdef uint32_t i
    for i in range(info.n_flags):
        if info.flags[i][0] == kind:
            return (flags & info.flags[i][1]) == info.flags[i][2]
    return True


cdef inline bint chunks_fit(Packet* p, const SctpInfo* info, Context* c) noexcept nogil:
    cdef uint8_t missing[32]
    cdef uint32_t at = p.thoff + 12, i
    cdef uint8_t kind
    cdef bint fits
    memcpy(missing, info.chunks, 32)
    while True:
        if not has(p, at, 4) or be16(p.data + at + 2) == 0:
            c.hotdrop = 1
            return False
        kind = p.data[at]
        if (info.chunks[kind >> 3] >> (kind & 7)) & 1:
            fits = flags_fit(info, kind, p.data[at + 1])
            if info.mode == SCTP_ANY and fits:
                return True
            if info.mode == SCTP_ALL and fits:
                missing[kind >> 3] &= <uint8_t>~(1 << (kind & 7))
            if info.mode == SCTP_ONLY and not fits:
                return False
        elif info.mode == SCTP_ONLY:
            return False
        at += (be16(p.data + at + 2) + 3) & ~<uint32_t>3
        if at >= p.total:
            break
    if info.mode != SCTP_ALL:
        return info.mode == SCTP_ONLY
    for i in range(32):
        if missing[i]:
            return False
    return True


cdef inline bint m_sctp(Packet* p, const SctpInfo* info, Context* c) noexcept nogil:
    if not readable(p, 12, c):
        return False
    if not ((info.sport[0] <= be16(p.data + p.thoff) <= info.sport[1]) ^ ((info.invert & 1) != 0)):
        return False
    if not ((info.dport[0] <= be16(p.data + p.thoff + 2) <= info.dport[1]) ^ ((info.invert & 2) != 0)):
        return False
    if not info.chunks_asked:
        return True
    return chunks_fit(p, info, c) ^ ((info.invert & 4) != 0)    # true with hotdrop: the rule counts, and the packet is lost
