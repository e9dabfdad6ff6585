"""match ecn: the ECT codepoint of the IP header, ECE and CWR of TCP.  Header-only."""

from libc.stdint cimport uint8_t, uint32_t

from nfqfw._packet cimport IPV4, LATER_FRAGMENT, Packet, has
from nfqfw._program cimport Context


cdef struct EcnMatchInfo:       # "<BBBx"
    uint8_t operation           # 1 = ECT, 0x10 = ECE, 0x20 = CWR: what is tested
    uint8_t invert              # the same bits
    uint8_t ect
    uint8_t pad


cdef inline bint m_ecn(Packet* p, const EcnMatchInfo* info, Context* c) noexcept nogil:
    cdef uint32_t at = p.thoff
    cdef uint8_t flags
    if info.operation & 1 and ((p.tos & 3) == info.ect) == ((info.invert & 1) != 0):
        return False
    if not info.operation & 0x30:
        return True
    if p.family == IPV4 and p.flags & LATER_FRAGMENT:
        at = (p.data[0] & 15) * 4           # the kernel looks where a TCP header would be
    if not has(p, at, 20):
        return False
    flags = p.data[at + 13]
    if info.operation & 0x10 and ((flags & 0x40) != 0) == ((info.invert & 0x10) != 0):
        return False
    return not info.operation & 0x20 or ((flags & 0x80) != 0) != ((info.invert & 0x20) != 0)
