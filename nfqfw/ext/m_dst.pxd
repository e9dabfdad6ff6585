"""matches dst and hbh: option headers of IPv6.  Header-only."""

from libc.stdint cimport uint8_t, uint32_t

from nfqfw._packet cimport Packet, has
from nfqfw._program cimport Context
from nfqfw.ext.headers6 cimport FOUND, MALFORMED, Found6, find_header6


cdef struct OptionsInfo:        # "<IBBBB32s"
    uint32_t length             # bytes
    uint8_t header              # 0 hop-by-hop, 60 destination
    uint8_t length_asked
    uint8_t length_invert
    uint8_t count               # options asked
    uint8_t options[32]         # type, length of each; length 255 = any


cdef inline bint m_options6(Packet* p, const OptionsInfo* info, Context* c) noexcept nogil:
    """The options must stand in this order from the first on."""
    cdef uint32_t at = 0, left, n, i
    cdef Found6 found = find_header6(p, info.header, &at)
    cdef uint8_t kind
    if found != FOUND or not has(p, at, 2):
        if found == MALFORMED or found == FOUND:
            c.hotdrop = 1
        return False
    left = (p.data[at + 1] + 1) * 8
    if not has(p, at, left):
        return False
    if info.length_asked and (info.length == left) == (info.length_invert != 0):
        return False
    at += 2
    left -= 2
    for i in range(info.count):
        if left < 1:
            return False
        kind = p.data[at]
        if kind != info.options[2 * i]:
            return False
        n = 1
        if kind:
            if left < 2 or (info.options[2 * i + 1] != 0xff and info.options[2 * i + 1] != p.data[at + 1]):
                return False
            n = <uint32_t>p.data[at + 1] + 2
        if left < n and i + 1 < info.count:
            return False
        at += n
        left = left - n if left > n else 0
    return True
