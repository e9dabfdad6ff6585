"""Translation of one packet: addresses, ports and ids, and the packets quoted in ICMP errors.  Header-only.

A manip makes one end of a packet equal to that end of a target tuple; the port (or id) goes with the address.  The same code
translates a packet and a packet quoted in an ICMP error: there the *other* end is changed, since the quoted packet travelled
the other way.  Whoever calls has decided that a manip is due (see _nat.pyx); spec/conntrack.md 2.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from nfqfw._checksum cimport fold, sum_bytes, sum_pseudo
from nfqfw._conn cimport Tuple
from nfqfw._packet cimport (HAS_L4, HAS_PORTS, IPV4, IS_FRAGMENT, LATER_FRAGMENT, SKB_CSUMNOTREADY, Packet, be16, has, put16)
from nfqfw._parse cimport MAX_HEADERS
from nfqfw._rewrite cimport (P_GRE, P_ICMP, P_ICMP6, P_SCTP, P_TCP, P_UDP, P_UDPLITE, difference, grown, sctp_checksum)


cdef enum Manip:                # nf_nat_manip_type of the kernel
    MANIP_SRC = 0
    MANIP_DST = 1


cdef struct Quoted:             # where things are in an IP packet, whole or quoted: n bytes at h
    uint8_t* h
    uint32_t n
    uint32_t thoff              # offset of the transport header
    uint8_t family
    uint8_t proto
    bint has_l4                 # False: a later fragment, or a header chain that cannot be walked
    bint partial                # the transport checksum is a partial sum: leave it
    bint whole                  # no fragment: SCTP's checksum is computed anew, of a quoted packet over what is quoted, as in the kernel


cdef inline bint has_icmp_id(uint8_t family, uint8_t icmp_type) noexcept nogil:
    """ICMP queries whose id NAT may change: echo, timestamp, information, address mask; ICMPv6: echo."""
    if family == IPV4:
        return icmp_type in (0, 8, 13, 14, 15, 16, 17, 18)
    return icmp_type == 128 or icmp_type == 129


cdef inline bint tuple_has_ports(uint8_t proto) noexcept nogil:
    """Protocols whose ports NAT may choose."""
    return proto in (P_TCP, P_UDP, P_SCTP, P_UDPLITE)


cdef inline bint put_l4(Quoted* q, const Tuple* target, uint32_t manip, uint32_t grows) noexcept nogil:
    """Set port or id and make the transport checksum follow; `grows`: how much the pseudo-header's sum grew.

    False: fewer than eight bytes of the transport header are there, and the packet cannot be translated.
    """
    cdef uint8_t* l4 = q.h + q.thoff
    cdef uint32_t size = q.n - q.thoff if q.n > q.thoff else 0
    cdef uint32_t at = 0 if manip == MANIP_SRC else 2
    cdef uint16_t port = target.sport if manip == MANIP_SRC else target.dport
    if tuple_has_ports(q.proto):
        if size < 8:
            return False
        grows += (~be16(l4 + at) & 0xffff) + port
        put16(l4 + at, port)
        if q.proto == P_TCP:
            if size >= 20 and not q.partial:
                put16(l4 + 16, grown(be16(l4 + 16), grows))
        elif q.proto == P_SCTP:
            if size >= 12 and q.whole and not q.partial:
                sctp_checksum(l4, size)
        elif (be16(l4 + 6) != 0 or q.proto == P_UDPLITE) and not q.partial:
            port = grown(be16(l4 + 6), grows)
            put16(l4 + 6, port if port else 0xffff)
        return True
    if q.proto == (P_ICMP if q.family == IPV4 else P_ICMP6):
        if size < 8:
            return False
        if q.family == IPV4:
            grows = 0                       # no pseudo-header
        if has_icmp_id(q.family, l4[0]):
            grows += (~be16(l4 + 4) & 0xffff) + target.sport
            put16(l4 + 4, target.sport)
        if not q.partial:
            put16(l4 + 2, grown(be16(l4 + 2), grows))
        return True
    if q.proto == P_GRE:
        if size < 8:
            return False
        if manip == MANIP_DST and (l4[1] & 7) == 1:     # enhanced GRE (PPTP): the call id of the destination
            put16(l4 + 6, target.dport)
    return True


cdef inline bint put_end(Quoted* q, const Tuple* target, uint32_t manip) noexcept nogil:
    """Make one end of an IP packet that of `target`: address, port or id, checksums.  False: too short to translate."""
    cdef uint32_t n = 4 if q.family == IPV4 else 16
    cdef uint32_t at = (12 if q.family == IPV4 else 8) + (0 if manip == MANIP_SRC else n)
    cdef const uint8_t* address = <const uint8_t*>target.src if manip == MANIP_SRC else <const uint8_t*>target.dst
    cdef uint32_t grows = difference(q.h + at, address, n)
    if q.has_l4 and not put_l4(q, target, manip, grows):
        return False
    memcpy(q.h + at, address, n)
    if q.family == IPV4:
        put16(q.h + 10, grown(be16(q.h + 10), grows))
    return True


cdef inline bint put_packet_end(Packet* p, const Tuple* target, uint32_t manip) noexcept nogil:
    """put_end on the packet itself; keeps the parsed fields up to date.  The caller has asked writable()."""
    cdef Quoted q
    q.h = p.data
    q.n = p.len
    q.thoff = p.thoff
    q.family = p.family
    q.proto = p.proto
    q.has_l4 = (p.flags & HAS_L4) != 0 and not p.flags & LATER_FRAGMENT
    q.partial = (p.skbinfo & SKB_CSUMNOTREADY) != 0
    q.whole = not p.flags & IS_FRAGMENT
    if not put_end(&q, target, manip):
        return False
    if p.flags & HAS_PORTS:
        p.sport = be16(p.data + p.thoff)
        p.dport = be16(p.data + p.thoff + 2)
    return True


# ---- ICMP errors --------------------------------------------------------------------------------------------------------

cdef inline bint find_quoted4(Quoted* q) noexcept nogil:
    """Fill in the layout of an IPv4 packet quoted in n bytes at q.h."""
    cdef uint32_t ihl
    if q.n < 20:
        return False
    ihl = (q.h[0] & 15) * 4
    if (q.h[0] >> 4) != 4 or ihl < 20 or ihl > q.n:
        return False
    q.thoff = ihl
    q.proto = q.h[9]
    q.has_l4 = (be16(q.h + 6) & 0x1fff) == 0
    return True


cdef inline bint find_quoted6(Quoted* q) noexcept nogil:
    """Fill in the layout of an IPv6 packet quoted in n bytes at q.h, behind its extension headers; thoff may lie beyond n."""
    cdef uint32_t at = 40, i
    cdef uint8_t header
    if q.n < 40 or (q.h[0] >> 4) != 6:
        return False
    header = q.h[6]
    q.has_l4 = True
    for i in range(MAX_HEADERS + 1):        # so many, and what they carry
        if header not in (0, 43, 44, 51, 60):
            q.proto = header
            q.thoff = at
            return True
        if at + (4 if header == 44 else 2) > q.n:
            break                           # a cut header is read as far as Linux reads it (ipv6_skip_exthdr)
        if header == 44:
            if be16(q.h + at + 2) & 0xfff8:
                q.has_l4 = False
                return True
            header = q.h[at]
            at += 8
        else:
            i = q.h[at + 1]
            i = (i + 2) << 2 if header == 51 else (i + 1) << 3
            header = q.h[at]
            at += i
    q.has_l4 = False                        # nobody knows what it carries: its addresses alone
    return True


cdef inline bint put_quoted(Packet* p, const Tuple* target, uint32_t manip) noexcept nogil:
    """Translate the packet that an ICMP error quotes, and bring the ICMP checksum up to date.  False: it cannot be."""
    cdef Quoted q
    cdef uint8_t* icmp = p.data + p.thoff
    cdef uint32_t before, after, size
    if not has(p, p.thoff, 8):
        return False
    size = p.len - p.thoff - 8
    q.h = icmp + 8
    q.n = size
    q.family = p.family
    q.partial = False
    q.whole = True
    if not (find_quoted4(&q) if p.family == IPV4 else find_quoted6(&q)):
        return False
    before = sum_bytes(q.h, size, 0)
    if not put_end(&q, target, manip):
        return False
    if p.skbinfo & SKB_CSUMNOTREADY:
        return True
    after = sum_bytes(q.h, size, 0)
    put16(icmp + 2, grown(be16(icmp + 2), difference_of_sums(before, after)))
    return True


cdef inline uint32_t folded(uint32_t total) noexcept nogil:
    total = (total & 0xffff) + (total >> 16)
    return (total & 0xffff) + (total >> 16)


cdef inline uint32_t difference_of_sums(uint32_t before, uint32_t after) noexcept nogil:
    """What to hand to `grown` when a covered region's sum went from before to after."""
    return (~folded(before) & 0xffff) + folded(after)


cdef inline bint icmp_checksum_good(const Packet* p) noexcept nogil:
    """The ICMP checksum of a whole packet is right; a partial one and a fragment's count as good."""
    cdef uint32_t size
    if p.skbinfo & SKB_CSUMNOTREADY or p.flags & IS_FRAGMENT or p.len < p.l3_len or p.len < p.thoff:
        return True
    size = p.len - p.thoff
    if p.family == IPV4:
        return fold(sum_bytes(p.data + p.thoff, size, 0)) == 0
    return fold(sum_bytes(p.data + p.thoff, size, sum_pseudo(p.data + 8, p.data + 24, 16, size, P_ICMP6))) == 0
