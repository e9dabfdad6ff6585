"""match u32.  Header-only."""

from libc.stdint cimport uint32_t

from nfqfw._packet cimport Packet, be32, has
from nfqfw._program cimport Context

cdef enum U32Operator:
    U32_AND = 1
    U32_LEFT = 2
    U32_RIGHT = 3
    U32_AT = 4


cdef struct U32Info:            # "<II" and then, of each test: steps, ranges, steps x (operator, number), ranges x (low, high)
    uint32_t tests
    uint32_t invert
    uint32_t words[1]


cdef inline bint m_u32(Packet* p, const U32Info* info, Context* c) noexcept nogil:
    """A location outside of the packet makes the whole match false before it is inverted."""
    cdef const uint32_t* w = info.words
    cdef uint32_t test, i, steps, ranges, value, at, number
    cdef bint inside
    for test in range(info.tests):
        steps = w[0]
        ranges = w[1]
        w += 2
        at = 0
        if not has(p, w[1], 4):
            return info.invert != 0
        value = be32(p.data + w[1])
        for i in range(1, steps):
            number = w[2 * i + 1]
            if w[2 * i] == U32_AND:
                value &= number
            elif w[2 * i] == U32_LEFT:
                value <<= (number & 31)
            elif w[2 * i] == U32_RIGHT:
                value >>= (number & 31)
            else:
                if at + value < at:
                    return info.invert != 0
                at += value
                if at > p.len or number > p.len - at or not has(p, at + number, 4):
                    return info.invert != 0
                value = be32(p.data + at + number)
        w += 2 * steps
        inside = False
        for i in range(ranges):
            if w[2 * i] <= value <= w[2 * i + 1]:
                inside = True
                break
        w += 2 * ranges
        if not inside:
            return info.invert != 0
    return not info.invert
