"""Tuples: from packet bytes, inverted, compared, hashed.  Header-only.

A canonical key hashes alike in both directions, so a connection without NAT needs one index entry: the endpoints are put
in order, and an ICMP type stands for its pair.  Equal hashes prove nothing; `same_tuple` decides.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from nfqfw._conn cimport ConnHot, ConnTable, Tuple
from nfqfw._packet cimport HAS_L4, IPV4, Packet, be16, destination, has, source
from nfqfw._siphash cimport sip13
from nfqfw.conntrack.simple cimport gre_key


cdef enum Proto:
    PROTO_ICMP = 1
    PROTO_TCP = 6
    PROTO_UDP = 17
    PROTO_GRE = 47
    PROTO_ICMPV6 = 58
    PROTO_SCTP = 132
    PROTO_UDPLITE = 136


cdef inline bint has_port_key(uint8_t proto) noexcept nogil:
    return proto in (PROTO_TCP, PROTO_UDP, PROTO_SCTP, PROTO_UDPLITE)


cdef inline bint is_icmp(uint8_t proto, uint8_t family) noexcept nogil:
    return proto == (PROTO_ICMP if family == IPV4 else PROTO_ICMPV6)


cdef inline uint8_t icmp_answer(uint8_t kind, uint8_t family) noexcept nogil:
    """Type that answers this one, or that it answers; 255 = it has no pair."""
    if family == IPV4:
        if kind == 0 or kind == 8:
            return 8 - kind
        if 13 <= kind <= 18:        # timestamp 13/14, information 15/16, address mask 17/18
            return kind + 1 if kind & 1 else kind - 1
        return 255
    if kind == 128 or kind == 129:
        return 257 - kind
    if kind == 139 or kind == 140:
        return 279 - kind
    return 255


cdef inline bint transport_key(const uint8_t* h, uint32_t n, uint8_t proto, uint8_t family, Tuple* out) noexcept nogil:
    """Ports, or what stands for them, from n bytes of transport header.  False: too few."""
    if has_port_key(proto):
        if n < 4:
            return False
        out.sport = be16(h)
        out.dport = be16(h + 2)
    elif is_icmp(proto, family):
        if n < 8:
            return False
        out.sport = be16(h + 4)
        out.dport = be16(h)
    return True


cdef inline bint tuple_from_packet(const Packet* p, Tuple* out) noexcept nogil:
    """Tuple of a parsed packet (zone left 0).  False: it has no transport header, or too little of it."""
    memset(out, 0, sizeof(Tuple))
    if not p.flags & HAS_L4:
        return False
    out.family = p.family
    out.proto = p.proto
    if p.family == IPV4:
        memcpy(out.src, source(p), 4)
        memcpy(out.dst, destination(p), 4)
    else:
        memcpy(out.src, source(p), 16)
        memcpy(out.dst, destination(p), 16)
    if p.proto == PROTO_GRE:
        return gre_key(p, &out.dport)
    return transport_key(p.data + p.thoff, p.len - p.thoff if p.len > p.thoff else 0, p.proto, p.family, out)


cdef inline bint inverse(const Tuple* a, Tuple* out) noexcept nogil:
    """The tuple that an answer has.  False: an ICMP type that nothing answers."""
    cdef uint8_t answer
    out[0] = a[0]
    memcpy(out.src, a.dst, 16)
    memcpy(out.dst, a.src, 16)
    if is_icmp(a.proto, a.family):
        answer = icmp_answer(<uint8_t>(a.dport >> 8), a.family)
        if answer == 255:
            return False
        out.dport = <uint16_t>((<uint32_t>answer << 8) | (a.dport & 255))
    else:
        out.sport = a.dport
        out.dport = a.sport
    return True


cdef inline bint same_but_zone(const Tuple* a, const Tuple* b) noexcept nogil:
    return (a.sport == b.sport and a.dport == b.dport and a.proto == b.proto and a.family == b.family
            and memcmp(a.src, b.src, 16) == 0 and memcmp(a.dst, b.dst, 16) == 0)


cdef inline uint64_t hash_tuple(const uint64_t* key, const Tuple* a) noexcept nogil:
    """Keyed hash of the canonical form; never 0."""
    cdef uint64_t words[5]
    cdef uint64_t low, high
    cdef uint32_t address
    cdef uint32_t first = a.sport, second = a.dport, pair = 0
    cdef uint8_t answer, kind
    cdef int order
    if is_icmp(a.proto, a.family):
        kind = <uint8_t>(a.dport >> 8)
        answer = icmp_answer(kind, a.family)
        pair = kind if kind < answer else answer
        first = second = a.sport ^ (<uint32_t>(a.dport & 255) << 8)
    if a.family == IPV4:
        memcpy(&address, a.src, 4)
        low = (<uint64_t>address << 16) | first
        memcpy(&address, a.dst, 4)
        high = (<uint64_t>address << 16) | second
        words[0] = (low if low < high else high) | (<uint64_t>a.proto << 48) | (<uint64_t>pair << 56)
        words[1] = (high if low < high else low) | (<uint64_t>a.zone << 48)
        low = sip13(key, words, 2)
        return low if low else 1
    order = memcmp(a.src, a.dst, 16)
    if order == 0:
        order = -1 if first < second else 1
    if order < 0:
        memcpy(&words[0], a.src, 16)
        memcpy(&words[2], a.dst, 16)
        words[4] = (<uint64_t>first << 48) | (<uint64_t>second << 32)
    else:
        memcpy(&words[0], a.dst, 16)
        memcpy(&words[2], a.src, 16)
        words[4] = (<uint64_t>second << 48) | (<uint64_t>first << 32)
    words[4] |= (<uint64_t>a.zone << 16) | (<uint64_t>a.proto << 8) | pair
    low = sip13(key, words, 5)
    return low if low else 1


cdef inline bint entry_has(const ConnTable* table, uint32_t i, uint32_t d, const Tuple* a, uint64_t hash) noexcept nogil:
    """Is `a`, zone included, the tuple of entry i in direction d?  IPv6 entries keep the hash where IPv4 ones keep addresses."""
    cdef const ConnHot* c = &table.hot[i]
    cdef uint32_t word
    if c.sport[d] != a.sport or c.dport[d] != a.dport or c.proto != a.proto or c.family != a.family or c.zone[d] != a.zone:
        return False
    if a.family == IPV4:
        memcpy(&word, a.src, 4)
        if c.src4[d] != word:
            return False
        memcpy(&word, a.dst, 4)
        return c.dst4[d] == word
    if c.src4[d] != <uint32_t>hash or c.dst4[d] != <uint32_t>(hash >> 32):
        return False
    return memcmp(table.addr6[i].src[d], a.src, 16) == 0 and memcmp(table.addr6[i].dst[d], a.dst, 16) == 0


cdef inline uint32_t unlike4(const ConnHot* c, uint32_t d, const Tuple* a, uint32_t src, uint32_t dst) noexcept nogil:
    """0 if IPv4 tuple `a` (its addresses as words) is the one of entry c in direction d.  Without a branch: which direction a
    packet has is chance, and a wrong guess of the processor costs more than all of this.
    """
    return ((c.src4[d] ^ src) | (c.dst4[d] ^ dst) | (c.sport[d] ^ a.sport) | (c.dport[d] ^ a.dport) | (c.zone[d] ^ a.zone)
            | (c.proto ^ a.proto) | (c.family ^ a.family))


cdef inline uint32_t directions(const ConnTable* table, uint32_t i, const Tuple* a, uint64_t hash) noexcept nogil:
    """In which directions `a` is the tuple of entry i: bit 0 original, bit 1 reply."""
    cdef uint32_t src, dst
    if a.family != IPV4:
        return <uint32_t>entry_has(table, i, 0, a, hash) | <uint32_t>entry_has(table, i, 1, a, hash) << 1
    memcpy(&src, a.src, 4)
    memcpy(&dst, a.dst, 4)
    return <uint32_t>(unlike4(&table.hot[i], 0, a, src, dst) == 0) | <uint32_t>(unlike4(&table.hot[i], 1, a, src, dst) == 0) << 1


cdef inline void write_tuple(ConnTable* table, uint32_t i, uint32_t d, const Tuple* a, uint64_t hash) noexcept nogil:
    """Store one direction; the caller holds the commit word odd."""
    cdef ConnHot* c = &table.hot[i]
    c.sport[d] = a.sport
    c.dport[d] = a.dport
    c.zone[d] = a.zone
    if a.family == IPV4:
        memcpy(&c.src4[d], a.src, 4)
        memcpy(&c.dst4[d], a.dst, 4)
    else:
        c.src4[d] = <uint32_t>hash
        c.dst4[d] = <uint32_t>(hash >> 32)
        memcpy(table.addr6[i].src[d], a.src, 16)
        memcpy(table.addr6[i].dst[d], a.dst, 16)
