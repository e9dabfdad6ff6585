"""Rewriting: edits of headers that keep checksums right, and the last look at a packet before it goes back.  Header-only.

Overview.  Every edit of a packet goes through `writable` (which marks it dirty, and refuses a packet of which the kernel gave
only a part) and through the put functions, which change the checksum that covers the field in the same step (RFC 1624).  A
wrong checksum stays wrong by the same amount: an edit never repairs a broken packet.

Partial checksums (SKB_CSUMNOTREADY): the field holds only the pseudo-header's sum, to be completed by a device.  A returned
payload loses that promise, so edits leave such a transport checksum alone and `rewrite_finish`, called once at the end of a
crossing, computes it whole.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from nfqfw._checksum cimport fold, sum_bytes, sum_pseudo, update16
from nfqfw._crc32c cimport crc32c
from nfqfw._packet cimport (DIRTY_PAYLOAD, HAS_L4, IPV4, IS_FRAGMENT, REASON_NONE, REASON_REWRITE,
                            REASON_TRUNCATED, SKB_CSUMNOTREADY, TRUNCATED, Packet, be16, destination, put16, source)


cdef enum:
    P_ICMP = 1
    P_TCP = 6
    P_UDP = 17
    P_GRE = 47
    P_ICMP6 = 58
    P_SCTP = 132
    P_UDPLITE = 136
    NO_CHECKSUM = 0xffff        # l4_checksum_at: the protocol has none that covers the pseudo-header


cdef inline bint writable(Packet* p) noexcept nogil:
    """Mark the payload dirty.  False: only a part of the packet is here, it cannot be returned (p.reason is set)."""
    if p.flags & TRUNCATED:
        p.reason = REASON_TRUNCATED
        return False
    p.dirty |= DIRTY_PAYLOAD
    return True


# ---- sums ---------------------------------------------------------------------------------------------------------------

cdef inline uint32_t difference(const uint8_t* old, const uint8_t* new, uint32_t n) noexcept nogil:
    """What a sum over these n bytes (even, on an even offset) grows by when old becomes new; 16 bits and carries."""
    cdef uint32_t total = 0, i = 0
    while i < n:
        total += (~be16(old + i)) & 0xffff
        total += be16(new + i)
        i += 2
    return (total & 0xffff) + (total >> 16)


cdef inline uint16_t grown(uint16_t checksum, uint32_t by) noexcept nogil:
    """The checksum after what it covers grew by `by` (RFC 1624 eq. 3)."""
    cdef uint32_t total = (~checksum & 0xffff) + by
    total = (total & 0xffff) + (total >> 16)
    total = (total & 0xffff) + (total >> 16)
    return <uint16_t>(~total & 0xffff)


cdef inline void ipv4_put16(uint8_t* header, uint32_t offset, uint32_t value) noexcept nogil:
    """Change one 16-bit word of an IPv4 header and its checksum.  offset is even."""
    put16(header + 10, update16(be16(header + 10), be16(header + offset), <uint16_t>value))
    put16(header + offset, value)


cdef inline void tcp_put16(Packet* p, uint32_t offset, uint32_t value) noexcept nogil:
    """Change the 16-bit word at p.data + offset, on an even distance from the TCP header, and the TCP checksum."""
    cdef uint8_t* sum_at = p.data + p.thoff + 16
    if not p.skbinfo & SKB_CSUMNOTREADY:
        put16(sum_at, update16(be16(sum_at), be16(p.data + offset), <uint16_t>value))
    put16(p.data + offset, value)


cdef inline void tcp_put8(Packet* p, uint32_t offset, uint8_t value) noexcept nogil:
    """Change one byte that the TCP checksum covers."""
    cdef uint32_t even = p.thoff + ((offset - p.thoff) & ~<uint32_t>1)
    cdef uint16_t word = be16(p.data + even)
    tcp_put16(p, even, (<uint32_t>value << 8) | (word & 0xff) if even == offset else (word & 0xff00) | value)


# ---- header fields ------------------------------------------------------------------------------------------------------

cdef inline bint put_ttl(Packet* p, uint8_t value) noexcept nogil:
    """TTL or hop limit.  False: not writable."""
    if not writable(p):
        return False
    if p.family == IPV4:
        ipv4_put16(p.data, 8, (<uint32_t>value << 8) | p.data[9])
    else:
        p.data[7] = value
    p.ttl = value
    return True


cdef inline bint put_tos(Packet* p, uint8_t value) noexcept nogil:
    """TOS or traffic class, all eight bits.  False: not writable."""
    if not writable(p):
        return False
    if p.family == IPV4:
        ipv4_put16(p.data, 0, (<uint32_t>p.data[0] << 8) | value)
    else:
        p.data[0] = (p.data[0] & 0xf0) | (value >> 4)
        p.data[1] = <uint8_t>((p.data[1] & 0x0f) | (value << 4))
    p.tos = value
    return True


# ---- the end of a crossing ----------------------------------------------------------------------------------------------

cdef inline uint32_t l4_checksum_at(uint8_t proto) noexcept nogil:
    """Offset of the transport checksum in its header; NO_CHECKSUM = this code computes none for it."""
    if proto == P_TCP:
        return 16
    if proto == P_UDP or proto == P_UDPLITE:
        return 6
    if proto == P_ICMP or proto == P_ICMP6:
        return 2
    return NO_CHECKSUM


cdef inline bint complete_checksum(Packet* p) noexcept nogil:
    """Compute the transport checksum of the whole packet.  False: the header is not all there."""
    cdef uint32_t at = l4_checksum_at(p.proto), size, total
    cdef uint8_t* l4 = p.data + p.thoff
    cdef uint16_t value
    if p.len < p.thoff:
        return False
    size = p.len - p.thoff
    if p.proto == P_SCTP:
        if size < 12:
            return False
        sctp_checksum(l4, size)
        return True
    if at == NO_CHECKSUM:
        return True
    if size < at + 2:
        return False
    put16(l4 + at, 0)
    if p.proto == P_ICMP:
        total = sum_bytes(l4, size, 0)
    else:
        total = sum_pseudo(source(p), destination(p), 4 if p.family == IPV4 else 16, size, p.proto)
        total = sum_bytes(l4, size, total)
    value = fold(total)
    if value == 0 and (p.proto == P_UDP or p.proto == P_UDPLITE):
        value = 0xffff
    put16(l4 + at, value)
    return True


cdef inline void sctp_checksum(uint8_t* l4, uint32_t size) noexcept nogil:
    """CRC32c of the whole SCTP packet with a zero checksum field, least significant byte first (RFC 9260 appendix A)."""
    cdef uint32_t crc
    cdef uint32_t i
    for i in range(4):
        l4[8 + i] = 0
    crc = crc32c(l4, size)
    for i in range(4):
        l4[8 + i] = <uint8_t>(crc >> (8 * i))


cdef inline bint lengths_hold(const Packet* p) noexcept nogil:
    """The rewritten headers agree with the bytes that go back."""
    cdef const uint8_t* h = p.data
    cdef uint32_t ihl
    if p.family == IPV4:
        ihl = (h[0] & 15) * 4
        if p.len < 20 or (h[0] >> 4) != 4 or ihl < 20 or ihl > p.len or be16(h + 2) != p.len or fold(sum_bytes(h, ihl, 0)) != 0:
            return False
    elif p.len < 40 or (h[0] >> 4) != 6 or <uint32_t>be16(h + 4) + 40 != p.len:
        return False
    return True


cdef inline uint8_t rewrite_finish(Packet* p) noexcept nogil:
    """Make a changed packet fit to be returned.  A Reason: 0 = it is, REASON_REWRITE = it does not hold together."""
    if not p.dirty & DIRTY_PAYLOAD:
        return REASON_NONE
    if p.flags & TRUNCATED:
        return REASON_TRUNCATED
    if not lengths_hold(p):
        return REASON_REWRITE
    if p.skbinfo & SKB_CSUMNOTREADY and p.flags & HAS_L4 and not p.flags & IS_FRAGMENT and not complete_checksum(p):
        return REASON_REWRITE
    return REASON_NONE
