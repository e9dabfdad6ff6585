"""target TCPMSS: lower, or add, the maximum segment size of a SYN.  Header-only.  spec/iptables.md 4.7, RFC 9293 3.7.1.

Never raises an existing value.  Where the option is missing it is added, if there is room in the header and no payload.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memmove

from nfqfw._host cimport HostRoute, Interface, interface_by_index
from nfqfw._checksum cimport update16
from nfqfw._masquerade cimport route_to
from nfqfw._packet cimport (DROP, HAS_TCP, IPV4, IS_FRAGMENT, LATER_FRAGMENT, REASON_MALFORMED, SKB_CSUMNOTREADY, Packet, be16,
                            destination, put16, source)
from nfqfw._program cimport Context
from nfqfw._rewrite cimport ipv4_put16, tcp_put16, tcp_put8, writable
from nfqfw.ext.t_TCPOPTSTRIP cimport option_length


cdef enum:
    MSS_OPTION = 2
    MSS_LENGTH = 4
    MSS_CLAMP = 0xffff          # TcpMssInfo.mss: to the path MTU
    MSS_DEFAULT4 = 536          # RFC 9293 3.7.1
    MSS_DEFAULT6 = 1220


cdef struct TcpMssInfo:         # "<HH"
    uint16_t mss
    uint16_t pad


cdef inline uint32_t route_mtu(Context* c, const HostRoute* route, uint32_t ifindex) noexcept nogil:
    """MTU of a route: its own, or its interface's; 0 = not known."""
    cdef const Interface* interface
    if route != NULL and route.mtu:
        return route.mtu
    interface = interface_by_index(c.host, route.ifindex if route != NULL else ifindex)
    return interface.mtu if interface != NULL else 0


cdef inline uint32_t path_mtu(Packet* p, Context* c) noexcept nogil:
    """Smaller of the MTU towards the destination and that of the route back to the source; 0 = neither is known."""
    cdef uint32_t out = route_mtu(c, route_to(c.host, p.family, destination(p), p.ifout), p.ifout)
    cdef const HostRoute* back = route_to(c.host, p.family, source(p), 0)
    cdef uint32_t mtu = route_mtu(c, back, 0) if back != NULL else 0
    if mtu == 0 or (out and out < mtu):
        return out
    return mtu


cdef inline void add_option(Packet* p, uint32_t size, uint16_t mss) noexcept nogil:
    """Put an MSS option behind the fixed TCP header of `size` bytes in all; the packet grows by four bytes."""
    cdef uint8_t* tcp = p.data + p.thoff
    cdef uint8_t* sum_at = tcp + 16
    cdef bint partial = (p.skbinfo & SKB_CSUMNOTREADY) != 0
    memmove(tcp + 24, tcp + 20, size - 20)
    tcp[20] = tcp[21] = tcp[22] = tcp[23] = 0
    if not partial:                         # the pseudo-header's length; four zero bytes change no sum
        put16(sum_at, update16(be16(sum_at), <uint16_t>size, <uint16_t>(size + 4)))
    tcp_put8(p, p.thoff + 12, <uint8_t>(((size + 4) << 2) | (tcp[12] & 15)))
    tcp_put16(p, p.thoff + 20, (MSS_OPTION << 8) | MSS_LENGTH)
    tcp_put16(p, p.thoff + 22, mss)
    if p.family == IPV4:
        ipv4_put16(p.data, 2, be16(p.data + 2) + 4)
    else:
        put16(p.data + 4, be16(p.data + 4) + 4)
    p.len += 4
    p.total += 4
    p.l3_len += 4


cdef inline int malformed(Packet* p) noexcept nogil:
    p.reason = REASON_MALFORMED
    return DROP


cdef inline int t_TCPMSS(Packet* p, const TcpMssInfo* info, Context* c) noexcept nogil:
    cdef uint32_t size, at, n, fixed = 40 if p.family == IPV4 else 60
    cdef uint32_t mss = info.mss
    cdef uint8_t* tcp = p.data + p.thoff
    if p.flags & LATER_FRAGMENT:
        return -1
    if not p.flags & HAS_TCP:
        return malformed(p)
    size = (tcp[12] >> 4) * 4
    if size < 20 or p.len < p.thoff + size:
        return malformed(p)
    if mss == MSS_CLAMP:
        mss = path_mtu(p, c)
        if mss <= fixed:
            return malformed(p)
        mss -= fixed
    at = 20
    while at + MSS_LENGTH <= size:
        n = option_length(tcp + at, size - at)
        if tcp[at] == MSS_OPTION and tcp[at + 1] == MSS_LENGTH:
            if be16(tcp + at + 2) <= mss:
                return -1
            if not writable(p):
                return DROP
            tcp_put8(p, p.thoff + at + 2, <uint8_t>(mss >> 8))
            tcp_put8(p, p.thoff + at + 3, <uint8_t>(mss & 0xff))
            return -1
        at += n
    if p.len > p.thoff + size or size >= 60 or p.len + 4 > p.capacity:
        return -1
    if not writable(p):
        return DROP
    n = MSS_DEFAULT4 if p.family == IPV4 else MSS_DEFAULT6
    add_option(p, size, <uint16_t>(mss if mss < n else n))
    return -1
