"""Parsing: one look at the headers of a packet, lengths checked once.  Header-only.

What the kernel's ip_rcv / ip6_rcv would have dropped is BAD_IP; what it passes on but no tracker can use simply lacks
HAS_L4 or the flag of its transport header.  RFC 791, RFC 8200; the walk of extension headers is that of the kernel's
ipv6_find_hdr: hop-by-hop, routing, fragment, authentication and destination options are walked, "no next header" ends it.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from nfqfw._checksum cimport fold, sum_bytes
from nfqfw._packet cimport (BAD_CHAIN, BAD_IP, HAS_ICMP, HAS_L4, HAS_PORTS, HAS_TCP, HAS_UDP, HOOKS, IPV4, IPV6, IS_FRAGMENT, LATER_FRAGMENT,
                            TRUNCATED, Packet, be16, be32, has)


cdef enum:
    MAX_HEADERS = 64            # limits.IPV6_HEADERS_MAX
    NEXT_HOP = 0
    NEXT_ICMP = 1
    NEXT_TCP = 6
    NEXT_UDP = 17
    NEXT_DCCP = 33
    NEXT_ROUTING = 43
    NEXT_FRAGMENT = 44
    NEXT_AUTH = 51
    NEXT_ICMP6 = 58
    NEXT_NONE = 59
    NEXT_DEST = 60
    NEXT_SCTP = 132
    NEXT_UDPLITE = 136


cdef inline bint is_extension(uint8_t header) noexcept nogil:
    return header in (NEXT_HOP, NEXT_ROUTING, NEXT_FRAGMENT, NEXT_AUTH, NEXT_NONE, NEXT_DEST)


cdef inline bint parse_ipv4(Packet* p) noexcept nogil:
    """IPv4 header to fields.  False: BAD_IP."""
    cdef const uint8_t* h = p.data
    cdef uint32_t ihl, length
    cdef uint16_t fragment
    if p.len < 20 or (h[0] >> 4) != 4:
        return False
    ihl = (h[0] & 15) * 4
    if ihl < 20 or p.len < ihl:
        return False
    length = be16(h + 2)
    if length == 0 and p.total > 65535:     # a super-packet that the 16-bit field cannot hold (BIG TCP)
        length = p.total
    if length < ihl or length > p.total or fold(sum_bytes(h, ihl, 0)) != 0:
        return False
    p.l3_len = length
    p.tos = h[1]
    p.ttl = h[8]
    p.proto = h[9]
    p.thoff = <uint16_t>ihl
    fragment = be16(h + 6)
    p.frag_id = be16(h + 4)
    p.fragoff = fragment & 0x1fff
    p.frag_more = (fragment >> 13) & 1
    if p.fragoff != 0:
        p.flags |= IS_FRAGMENT | LATER_FRAGMENT
    else:
        p.flags |= HAS_L4 | (IS_FRAGMENT if p.frag_more else 0)
    return True


cdef inline void walk_headers(Packet* p, uint8_t header) noexcept nogil:
    """Walk IPv6 extension headers from offset 40; sets proto, thoff, the fragment fields and HAS_L4 or BAD_CHAIN."""
    cdef uint32_t at = 40, n, size
    cdef const uint8_t* h
    for n in range(MAX_HEADERS + 1):
        if not is_extension(header) or header == NEXT_NONE:
            p.proto = header
            p.thoff = <uint16_t>at
            p.flags |= HAS_L4
            return
        if n == MAX_HEADERS:
            break
        if not has(p, at, 8 if header == NEXT_FRAGMENT else 2):     # two bytes name the next header: the kernel asks no more
            break
        h = p.data + at
        size = 8
        if header == NEXT_FRAGMENT:
            p.flags |= IS_FRAGMENT
            p.frag_hdr = <uint16_t>at
            p.fragoff = be16(h + 2) >> 3
            p.frag_more = h[3] & 1
            p.frag_id = be32(h + 4)
            if p.fragoff != 0:
                p.proto = h[0]
                if is_extension(h[0]) and h[0] != NEXT_NONE:    # the kernel cannot name the protocol of such a piece
                    break
                p.flags |= LATER_FRAGMENT
                p.thoff = <uint16_t>(at + 8)
                return
        elif header == NEXT_AUTH:
            size = (<uint32_t>h[1] + 2) << 2
        else:
            size = (<uint32_t>h[1] + 1) << 3
        header = h[0]
        at += size
        if at > 65535:
            break
    p.proto = header
    p.flags |= BAD_CHAIN


cdef inline bint parse_ipv6(Packet* p) noexcept nogil:
    """IPv6 header and extension headers to fields.  False: BAD_IP."""
    cdef const uint8_t* h = p.data
    cdef uint32_t length
    if p.len < 40 or (h[0] >> 4) != 6:
        return False
    length = <uint32_t>be16(h + 4) + 40
    if length == 40 and p.total > 65535 and h[6] == NEXT_HOP:   # jumbogram: a super-packet of the kernel's own making
        length = p.total
    if length > p.total:
        return False
    p.l3_len = length
    p.tos = <uint8_t>((h[0] << 4) | (h[1] >> 4))
    p.ttl = h[7]
    walk_headers(p, h[6])
    return True


cdef inline void parse_transport(Packet* p) noexcept nogil:
    """Ports, TCP flags and ICMP type, where they are in the packet.  Only with HAS_L4."""
    cdef const uint8_t* h = p.data + p.thoff
    cdef uint32_t end = p.len if p.len < p.l3_len else p.l3_len
    cdef uint32_t n = end - p.thoff if end > p.thoff else 0
    if n < 4:
        return
    if p.proto == NEXT_TCP or p.proto == NEXT_UDP or p.proto in (NEXT_SCTP, NEXT_DCCP, NEXT_UDPLITE):
        p.flags |= HAS_PORTS
        p.sport = be16(h)
        p.dport = be16(h + 2)
        if p.proto == NEXT_TCP:
            if n >= 20:
                p.flags |= HAS_TCP
                p.tcp_flags = h[13]
        elif n >= 8 and (p.proto == NEXT_UDP or p.proto == NEXT_UDPLITE):
            p.flags |= HAS_UDP
    elif p.proto == (NEXT_ICMP if p.family == IPV4 else NEXT_ICMP6):
        p.flags |= HAS_ICMP
        p.icmp_type = h[0]
        p.icmp_code = h[1]


cdef inline void parse(Packet* p) noexcept nogil:
    """Fill the parsed half of a Packet from data, len, total, family and hook.  Never fails: see flags.

    A hook or family that no IP packet has (a rule of a bridge table that queues to us) is BAD_IP, too.  Bytes behind the length that the IP header claims are link padding: they are cut off, as the kernel does on receive.
    """
    p.flags = 0
    p.proto = p.tos = p.ttl = p.tcp_flags = p.icmp_type = p.icmp_code = 0
    p.thoff = p.fragoff = p.frag_more = p.frag_hdr = p.sport = p.dport = 0
    p.frag_id = p.l3_len = 0
    p.flow_hash = 0
    if p.hook >= HOOKS or not (parse_ipv4(p) if p.family == IPV4 else p.family == IPV6 and parse_ipv6(p)):
        p.flags = BAD_IP
        return
    if p.total > p.l3_len:
        p.total = p.l3_len
        if p.len > p.total:
            p.len = p.total
    if p.len < p.total:
        p.flags |= TRUNCATED
    if p.flags & HAS_L4:
        parse_transport(p)
