"""match ipv6header: which extension headers there are.  Header-only."""

from libc.stdint cimport uint8_t, uint32_t

from nfqfw._packet cimport Packet, has
from nfqfw._program cimport Context
from nfqfw.ext.headers6 cimport (HEADER_AUTH, HEADER_DEST, HEADER_ESP, HEADER_FRAGMENT, HEADER_HOP, HEADER_NONE, HEADER_ROUTING,
                                 HEADERS_MOST, header_length, is_extension)


cdef struct HeadersInfo:        # "<BBBB"
    uint8_t headers             # 128 hop, 64 destination, 32 routing, 16 fragment, 8 ah, 4 esp, 2 none, 1 protocol
    uint8_t soft
    uint8_t invert
    uint8_t pad


cdef inline uint8_t header_bit(uint8_t header) noexcept nogil:
    if header == HEADER_HOP:
        return 128
    if header == HEADER_DEST:
        return 64
    if header == HEADER_ROUTING:
        return 32
    if header == HEADER_FRAGMENT:
        return 16
    return 8


cdef inline bint m_headers6(Packet* p, const HeadersInfo* info, Context* c) noexcept nogil:
    cdef uint8_t header = p.data[6], seen = 0, flip
    cdef uint32_t at = 40, n, length
    for n in range(HEADERS_MOST):
        if header == HEADER_NONE:
            seen |= 2
            break
        if not is_extension(header) and header != HEADER_ESP:
            break
        if not has(p, at, 2):
            return False
        if header == HEADER_ESP:
            seen |= 4
            break
        length = header_length(p, header, at)
        seen |= header_bit(header)
        header = p.data[at]
        at += length
        if at > p.total:
            break
    if header != HEADER_NONE and header != HEADER_ESP:
        seen |= 1
    if info.soft:
        flip = 0xff if info.invert else 0
        return ((seen ^ info.headers ^ flip) & info.headers) == 0
    return (seen == info.headers) ^ (info.invert != 0)
