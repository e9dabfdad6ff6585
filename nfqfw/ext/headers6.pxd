"""The chain of IPv6 extension headers, for the matches that look into it.  Header-only.  RFC 8200 section 4."""

from libc.stdint cimport uint8_t, uint32_t

from nfqfw._packet cimport Packet, be16, has

cdef enum Header6:
    HEADER_HOP = 0
    HEADER_ROUTING = 43
    HEADER_FRAGMENT = 44
    HEADER_ESP = 50
    HEADER_AUTH = 51
    HEADER_NONE = 59
    HEADER_DEST = 60

cdef enum Found6:
    FOUND = 0
    ABSENT = 1
    MALFORMED = 2

cdef enum:
    HEADERS_MOST = 64           # limits.IPV6_HEADERS_MAX


cdef inline bint is_extension(uint8_t header) noexcept nogil:
    return (header == HEADER_HOP or header == HEADER_ROUTING or header == HEADER_FRAGMENT or header == HEADER_AUTH
            or header == HEADER_DEST or header == HEADER_NONE)


cdef inline uint32_t header_length(const Packet* p, uint8_t header, uint32_t at) noexcept nogil:
    """Bytes of the header at `at`, of which 2 are there."""
    if header == HEADER_FRAGMENT:
        return 8
    if header == HEADER_AUTH:
        return (p.data[at + 1] + 2) * 4
    return (p.data[at + 1] + 1) * 8


cdef inline Found6 find_header6(const Packet* p, uint8_t wanted, uint32_t* at) noexcept nogil:
    """Where the first header of that kind begins.  Behind a later fragment's header there is nothing to be found."""
    cdef uint8_t header = p.data[6]
    cdef uint32_t here = 40, n
    for n in range(HEADERS_MOST):
        if header == wanted:
            at[0] = here
            return FOUND
        if not is_extension(header) or header == HEADER_NONE:
            return ABSENT
        if not has(p, here, 2):
            return MALFORMED
        if header == HEADER_FRAGMENT:
            if not has(p, here, 8):
                return MALFORMED
            if be16(p.data + here + 2) & 0xfff8:
                return ABSENT
        n = header_length(p, header, here)
        header = p.data[here]
        here += n
    return MALFORMED if is_extension(header) and header != HEADER_NONE else ABSENT
