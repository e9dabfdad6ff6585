"""ICMP errors: which connection does the quoted packet belong to?  Header-only.  spec/conntrack.md 1.7, RFC 792, 4443, 4861.

An error makes, refreshes and counts nothing.  It belongs to the connection whose packet it quotes, and travels against
that packet: the quoted tuple is inverted before it is looked up.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

from nfqfw._checksum cimport fold, sum_bytes
from nfqfw._conn cimport Tuple
from nfqfw.conntrack.table cimport Conntrack
from nfqfw._packet cimport IPV4, Packet, be16, destination, has, l4_len, source
from nfqfw._parse cimport MAX_HEADERS
from nfqfw.conntrack.simple cimport GRE_PPP, ICMP_TYPES
from nfqfw.conntrack.track cimport transport_sum, verifiable
from nfqfw.conntrack.tuple cimport PROTO_GRE, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP, PROTO_UDPLITE, PROTO_SCTP, inverse, transport_key


cdef enum IcmpClass:
    ICMP_BAD = 0                # INVALID
    ICMP_PLAIN = 1              # tracked by its own tuple
    ICMP_ERROR = 2              # quotes a packet at the offset given
    ICMP_UNTRACKED = 3          # neighbour discovery, multicast listeners


cdef enum:
    REDIRECT6 = 137
    OPTION_REDIRECTED = 4       # RFC 4861 4.6.3


cdef inline bint is_untracked6(uint8_t kind) noexcept nogil:
    return kind in (130, 131, 132, 133, 134, 135, 136, 143, 151, 152)


cdef inline uint32_t redirected_header(const Packet* p) noexcept nogil:
    """Offset of the packet quoted by an IPv6 redirect, 0 = none.  Only a neighbour may redirect (RFC 4861 8.1).

    Seen on Linux 6.18: the quoted packet must be the first option.
    """
    cdef uint32_t at = p.thoff + 40
    cdef const uint8_t* sender = source(p)
    if p.ttl != 255 or sender[0] != 0xfe or (sender[1] & 0xc0) != 0x80:
        return 0
    if has(p, at, 8) and p.data[at] == OPTION_REDIRECTED and p.data[at + 1] != 0:
        return at + 8
    return 0


cdef inline uint16_t icmp4_sum(const Packet* p) noexcept nogil:
    """0 if the whole message sums up right (no pseudo-header in ICMPv4)."""
    return fold(sum_bytes(p.data + p.thoff, l4_len(p), 0))


cdef inline int classify_icmp4(Conntrack* t, const Packet* p, uint32_t* inner) noexcept nogil:
    cdef uint8_t kind
    if not has(p, p.thoff, 8) or l4_len(p) < 8:
        return ICMP_BAD
    if verifiable(t, p) and icmp4_sum(p) != 0:
        return ICMP_BAD
    kind = p.data[p.thoff]
    if kind > ICMP_TYPES:
        return ICMP_BAD
    inner[0] = p.thoff + 8
    return ICMP_ERROR if kind in (3, 4, 5, 11, 12) else ICMP_PLAIN


cdef inline int classify_icmp6(Conntrack* t, const Packet* p, uint32_t* inner) noexcept nogil:
    cdef uint8_t kind
    if not has(p, p.thoff, 8) or l4_len(p) < 8:
        return ICMP_BAD
    if verifiable(t, p) and transport_sum(p, l4_len(p), PROTO_ICMPV6) != 0:
        return ICMP_BAD
    kind = p.data[p.thoff]
    if is_untracked6(kind):
        return ICMP_UNTRACKED
    if kind == REDIRECT6:
        inner[0] = redirected_header(p)
        return ICMP_ERROR if inner[0] else ICMP_BAD
    inner[0] = p.thoff + 8
    return ICMP_PLAIN if kind >= 128 else ICMP_ERROR


cdef inline bint inner_transport(const Packet* p, uint32_t at, uint8_t proto, Tuple* out) noexcept nogil:
    """Key of the quoted transport header: 4 bytes are enough for ports, ICMP needs 8."""
    cdef const uint8_t* h = p.data + at
    cdef uint32_t n = p.len - at if p.len > at else 0
    out.proto = proto
    if proto == PROTO_GRE:
        if n >= 8 and (h[1] & 7) == 1:
            if be16(h + 2) != GRE_PPP:
                return False
            out.dport = be16(h + 6)
        return True
    return transport_key(h, n, proto, out.family, out)


cdef inline bint inner_tuple4(const Packet* p, uint32_t at, Tuple* out) noexcept nogil:
    cdef const uint8_t* h = p.data + at
    cdef uint32_t size
    if not has(p, at, 20):
        return False
    size = (h[0] & 15) * 4
    if be16(h + 6) & 0x1fff:                # version and a too small IHL are not looked at, as in the kernel
        return False
    memcpy(out.src, h + 12, 4)
    memcpy(out.dst, h + 16, 4)
    return has(p, at, size) and inner_transport(p, at + size, h[9], out)


cdef inline bint inner_tuple6(const Packet* p, uint32_t at, Tuple* out) noexcept nogil:
    cdef const uint8_t* h = p.data + at
    cdef uint8_t header
    cdef uint32_t n
    if not has(p, at, 40):
        return False
    memcpy(out.src, h + 8, 16)
    memcpy(out.dst, h + 24, 16)
    header = h[6]
    at += 40
    for n in range(MAX_HEADERS + 1):        # so many, and what they carry
        if header not in (0, 43, 44, 51, 60):
            return header != 59 and inner_transport(p, at, header, out)
        if not has(p, at, 4 if header == 44 else 2):        # what says how long it is; the rest may be cut off
            return False
        if header == 44:
            if be16(p.data + at + 2) & 0xfff8:
                return False
            header = p.data[at]
            at += 8
        elif header == 51:
            header = p.data[at]
            at += (<uint32_t>p.data[at + 1] + 2) * 4
        else:
            header = p.data[at]
            at += (<uint32_t>p.data[at + 1] + 1) * 8
    return False


cdef inline bint error_tuple(const Packet* p, uint32_t at, Tuple* out) noexcept nogil:
    """Tuple, in the direction in which the error travels, of the connection whose packet is quoted at `at`."""
    cdef Tuple inner
    memset(&inner, 0, sizeof(Tuple))
    inner.family = p.family
    if not (inner_tuple4(p, at, &inner) if p.family == IPV4 else inner_tuple6(p, at, &inner)):
        return False
    return inverse(&inner, out)


cdef inline bint goes_to(const Packet* p, const Tuple* a) noexcept nogil:
    """Is the error addressed to whom the connection's packets in this direction go?  Else somebody made it up."""
    return memcmp(destination(p), a.dst, 4 if p.family == IPV4 else 16) == 0
