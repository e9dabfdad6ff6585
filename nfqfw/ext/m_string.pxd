"""match string: Knuth-Morris-Pratt, so that no input takes more than linear time.  Header-only."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from nfqfw._packet cimport Packet
from nfqfw._program cimport Context


cdef struct StringInfo:         # "<HHBBBx128s128s"
    uint16_t first              # offsets from the IP header
    uint16_t last
    uint8_t length              # of the pattern, 1 .. 128
    uint8_t icase               # the pattern is in capitals
    uint8_t invert
    uint8_t pad
    uint8_t pattern[128]
    uint8_t border[128]         # of each prefix the length of its longest border


cdef inline bint m_string(Packet* p, const StringInfo* info, Context* c) noexcept nogil:
    """The whole pattern must lie in [first, last)."""
    cdef uint32_t at = info.first
    cdef uint32_t end = p.len if p.len < info.last else info.last
    cdef uint32_t held = 0
    cdef uint8_t byte
    while at < end:
        byte = p.data[at]
        if info.icase and 0x61 <= byte <= 0x7a:
            byte -= 0x20
        while held and info.pattern[held] != byte:
            held = info.border[held - 1]
        if info.pattern[held] == byte:
            held += 1
            if held == info.length:
                return not info.invert
        at += 1
    return info.invert != 0
