"""targets SNPT and DNPT: IPv6 prefix translation that leaves every checksum right.  Header-only.  RFC 6296.

The prefix is replaced, and one 16-bit word of the rest takes up the difference of the sums, so nothing above needs a change.
ICMPv6 errors about translated packets have the address that they quote translated as well.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from nfqfw._packet cimport DROP, HAS_ICMP, REASON_MALFORMED, Packet, be16, has, put16
from nfqfw._program cimport Context
from nfqfw._rewrite cimport writable


cdef struct NptInfo:            # "<16s16sHBB"
    uint8_t from_prefix[16]
    uint8_t to_prefix[16]
    uint16_t adjustment         # one's complement sum of from_prefix less that of to_prefix
    uint8_t from_bits
    uint8_t bits                # the longer of both prefixes


cdef inline bint translate_prefix(uint8_t* address, const NptInfo* info) noexcept nogil:
    """False: every word that could take the difference is 0xffff (RFC 6296 3.5)."""
    cdef uint32_t i, word = 3, total
    cdef uint8_t mask
    for i in range(8):
        if i * 8 >= info.bits:
            break
        mask = 0 if info.bits - i * 8 >= 8 else <uint8_t>(0xff >> (info.bits - i * 8))
        address[i] = (address[i] & mask) | (info.to_prefix[i] & ~mask)
    if info.bits > 48:
        word = 4
        while word < 8 and be16(address + 2 * word) == 0xffff:
            word += 1
        if word == 8:
            return False
    total = <uint32_t>be16(address + 2 * word) + info.adjustment
    total = (total & 0xffff) + (total >> 16)
    put16(address + 2 * word, 0 if total == 0xffff else total)
    return True


cdef inline bint starts_with(const uint8_t* address, const NptInfo* info) noexcept nogil:
    cdef uint32_t i, bits = info.from_bits
    cdef uint8_t mask
    for i in range(8):
        if i * 8 >= bits:
            return True
        mask = 0xff if bits - i * 8 >= 8 else <uint8_t>(0xff << (8 - (bits - i * 8)))
        if (address[i] & mask) != info.from_prefix[i]:
            return False
    return True


cdef inline int t_NPT(Packet* p, const NptInfo* info, uint32_t own, uint32_t quoted) noexcept nogil:
    """own: offset of the address to translate; quoted: that of the other end in a quoted packet (behind no extension header)."""
    cdef uint32_t inner = p.thoff + 8
    if not writable(p):
        return DROP
    if p.data[6] == 58 and p.flags & HAS_ICMP and 1 <= p.icmp_type <= 4 and has(p, inner, 40) and starts_with(p.data + inner + quoted, info):
        translate_prefix(p.data + inner + quoted, info)
    if translate_prefix(p.data + own, info):
        return -1
    p.reason = REASON_MALFORMED
    return DROP


cdef inline int t_SNPT(Packet* p, const NptInfo* info, Context* c) noexcept nogil:
    return t_NPT(p, info, 8, 24)


cdef inline int t_DNPT(Packet* p, const NptInfo* info, Context* c) noexcept nogil:
    return t_NPT(p, info, 24, 8)
