"""REJECT: the reply the kernel would send, as bytes.  Header-only.  spec/iptables.md 4.6, RFC 792, 4443, 9293 3.10.7.

The verdict is always DROP; whether a reply goes out, and which, is decided here.  IPv4 replies leave their source (when
it is not the packet's destination), IP id and header checksum to the kernel, which fills in what is zero (raw(7)).
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from nfqfw._atomic cimport lock, unlock
from nfqfw._checksum cimport fold, sum_bytes, sum_pseudo
from nfqfw._host cimport (ADDR_BROADCAST, ADDR_MULTICAST, HostHeader, HostRoute, address_type, interface_by_index, local_address)
from nfqfw._masquerade cimport masquerade6, route_to
from nfqfw._outbox cimport Outbox, OutPacket, new_reply
from nfqfw._packet cimport (HAS_L4, HAS_TCP, IPV4, SKB_CSUM_NOTVERIFIED, SKB_CSUMNOTREADY, FORWARD, TRUNCATED, Packet, be16, be32,
                            destination, put16, put32, source)
from nfqfw._program cimport Context, random32


cdef enum RejectOutcome:        # value of a TRACE_REJECT record; 0 = a reply was queued
    REJECT_SENT = 0
    REJECT_FRAGMENT = 1
    REJECT_CHECKSUM = 2
    REJECT_NOT_UNICAST = 3
    REJECT_OF_ERROR = 4         # never an error about an error, never a RST about a RST
    REJECT_SHORT = 5
    REJECT_RATE = 6
    REJECT_FULL = 7
    REJECT_NO_ROUTE = 8


cdef enum:
    PEERS = 4096                # peers whose rate is remembered; a collision forgets the older
    PEER_BURST = 6              # XRLIM_BURST_FACTOR of the kernel
    TCP_RESET_V4 = 7            # IPT_TCP_RESET
    TCP_RESET_V6 = 6            # IP6T_TCP_RESET
    FLAG_FIN = 1
    FLAG_SYN = 2
    FLAG_RST = 4
    FLAG_ACK = 16
    ICMP_ROOM = 576             # largest ICMPv4 error we send (RFC 1812 4.3.2.3)
    ICMP6_ROOM = 1280           # the minimum IPv6 MTU


cdef struct IcmpPeer:
    uint64_t address            # mixed
    uint64_t last_ms
    uint64_t tokens             # ms


cdef struct IcmpLimit:          # one for all queue threads: the limits are the namespace's
    uint32_t lock
    int64_t credit
    uint64_t stamp_ms
    IcmpPeer peers[4096]
    uint64_t limited            # replies not sent


cdef inline uint8_t icmp4_code(uint8_t kind) noexcept nogil:
    """ICMP destination-unreachable code of enum ipt_reject_with."""
    if kind == 5:               # net-prohibited
        return 9
    if kind == 6:               # host-prohibited
        return 10
    if kind == 8:               # admin-prohibited
        return 13
    return kind if kind < 4 else 3


cdef inline uint8_t icmp6_code(uint8_t kind) noexcept nogil:
    """ICMPv6 destination-unreachable code of enum ip6t_reject_with."""
    if kind == 7:               # policy-fail
        return 5
    if kind == 8:               # reject-route
        return 6
    return kind if kind < 5 else 4


cdef inline bint global_allow(IcmpLimit* limit, Context* c, uint64_t now_ms) noexcept nogil:
    """icmp_msgs_per_sec and icmp_msgs_burst of the namespace: refilled at most every 20 ms, as the kernel does."""
    cdef uint64_t delta
    cdef int64_t more
    if c.host == NULL or limit.credit > 0:
        return True
    delta = now_ms - limit.stamp_ms
    if delta > 1000:
        delta = 1000
    more = <int64_t>(c.host.icmp_msgs_per_sec * delta // 1000)
    if delta < 20 or more == 0:
        return False
    limit.stamp_ms = now_ms
    limit.credit += more
    if limit.credit > c.host.icmp_msgs_burst:
        limit.credit = c.host.icmp_msgs_burst
    return True


cdef inline bint peer_allow(IcmpLimit* limit, uint64_t address, uint32_t timeout_ms, uint64_t now_ms) noexcept nogil:
    """One reply per timeout_ms and peer, with a burst of six (inet_peer_xrlim_allow)."""
    cdef IcmpPeer* peer = &limit.peers[(address ^ (address >> 17) ^ (address >> 40)) & (PEERS - 1)]
    if timeout_ms == 0:
        return True
    if peer.address != address:
        peer.address = address
        peer.tokens = 0
        peer.last_ms = now_ms - 60000
    peer.tokens += now_ms - peer.last_ms
    peer.last_ms = now_ms
    if peer.tokens > PEER_BURST * timeout_ms:
        peer.tokens = PEER_BURST * timeout_ms
    if peer.tokens < timeout_ms:
        return False
    peer.tokens -= timeout_ms
    return True


cdef inline bint on_this_host(Context* c, const Packet* p) noexcept nogil:
    """Whether p's sender is: a reply then leaves by the loopback device."""
    return local_address(c.host, p.family, source(p)) != NULL or (p.family == IPV4 and source(p)[0] == 127)


cdef inline bint rate_allow(IcmpLimit* limit, Context* c, const Packet* p) noexcept nogil:
    """Both limits of the namespace; a peer on this host is not limited (its route is the loopback device)."""
    cdef uint64_t now_ms = c.now // 1000000, address = 0, word = 0
    cdef uint32_t timeout
    cdef bint allowed
    if c.host == NULL:
        return True
    if on_this_host(c, p):
        return True
    timeout = c.host.icmp6_ratelimit
    if p.family == IPV4:
        if not (c.host.icmp_ratemask >> 3) & 1:         # bit 3: destination unreachable
            return True
        timeout = c.host.icmp_ratelimit
        memcpy(&word, source(p), 4)
        address = (word + 1) * <uint64_t>0x9E3779B97F4A7C15
    else:
        memcpy(&address, source(p), 8)
        memcpy(&word, source(p) + 8, 8)
        address = (address ^ (word * <uint64_t>0x9E3779B97F4A7C15)) + 1
    lock(&limit.lock)
    allowed = global_allow(limit, c, now_ms) and peer_allow(limit, address, timeout, now_ms)
    if allowed:
        limit.credit -= random32(c) % 3
    else:
        limit.limited += 1
    unlock(&limit.lock)
    return allowed


cdef inline bint checksum_good(const Packet* p) noexcept nogil:
    """Whether the kernel's REJECT would find the transport checksum right (or not look at it)."""
    cdef uint32_t n, total, proto = p.proto
    cdef const uint8_t* h = p.data + p.thoff
    if p.skbinfo & SKB_CSUMNOTREADY or p.flags & TRUNCATED:
        return True
    if p.hook <= FORWARD and not p.skbinfo & SKB_CSUM_NOTVERIFIED:
        return True
    if p.family != IPV4 and p.len <= p.thoff:
        return False                                    # IPv6: no transport, no reply, whatever the protocol
    if proto in (47, 51, 50, 132, 136):                 # GRE AH ESP SCTP UDP-Lite: not looked at (DCCP is, on 6.18)
        return True
    if p.len < p.thoff:
        return False
    n = p.len - p.thoff
    if proto == 17 and n >= 8 and h[6] == 0 and h[7] == 0:
        return True
    if p.family == IPV4 and proto != 6 and proto != 17:
        total = sum_bytes(h, n, 0xffff)                 # over the IP header too, which sums to that: an empty payload is right
    else:
        total = sum_pseudo(source(p), destination(p), 4 if p.family == IPV4 else 16, n, proto)
        total = sum_bytes(h, n, total)
    return fold(total) == 0


cdef inline bint not_unicast(Context* c, const Packet* p) noexcept nogil:
    """Broadcast or multicast at either end, or no source to answer to."""
    cdef const uint8_t* src = source(p)
    cdef uint32_t kind = address_type(c.host, p.family, destination(p))
    cdef uint32_t i
    if kind == ADDR_BROADCAST or kind == ADDR_MULTICAST:
        return True
    if p.family == IPV4:
        kind = address_type(c.host, p.family, src)
        return kind == ADDR_BROADCAST or kind == ADDR_MULTICAST
    if src[0] == 0xff:
        return True
    for i in range(16):
        if src[i]:
            return False
    return True


cdef inline bint unroutable(Context* c, const Packet* p) noexcept nogil:
    """IPv4: the answer of a loopback address to somebody who is not on this host, which Linux finds no route for (NAT made such)."""
    return c.host != NULL and p.family == IPV4 and destination(p)[0] == 127 and not on_this_host(c, p)


cdef inline void ipv4_header(uint8_t* h, uint32_t length, uint8_t tos, bint df, uint8_t ttl, uint8_t proto,
                             const uint8_t* src, const uint8_t* dst) noexcept nogil:
    """20 bytes.  src NULL: 0, the kernel chooses.  Identification 0; the checksum is valid."""
    memset(h, 0, 20)
    h[0] = 0x45
    h[1] = tos
    put16(h + 2, length)
    h[6] = 0x40 if df else 0
    h[8] = ttl
    h[9] = proto
    if src != NULL:
        memcpy(h + 12, src, 4)
    memcpy(h + 16, dst, 4)
    put16(h + 10, fold(sum_bytes(h, 20, 0)))


cdef inline void ipv6_header(uint8_t* h, uint32_t payload, uint8_t hops, uint8_t proto, const uint8_t* src,
                             const uint8_t* dst) noexcept nogil:
    memset(h, 0, 40)
    h[0] = 0x60
    put16(h + 4, payload)
    h[6] = proto
    h[7] = hops
    memcpy(h + 8, src, 16)
    memcpy(h + 24, dst, 16)


cdef inline uint8_t default_ttl(Context* c) noexcept nogil:
    return <uint8_t>c.host.default_ttl if c.host != NULL and c.host.default_ttl else 64


cdef inline uint32_t reject_reset(Packet* p, Context* c, Outbox* box) noexcept nogil:
    """TCP RST for p (RFC 9293 3.10.7.1): 20 bytes of TCP without options."""
    cdef const uint8_t* t = p.data + p.thoff
    cdef uint8_t* h
    cdef OutPacket* reply
    cdef uint32_t ip = 20 if p.family == IPV4 else 40, payload, doff, ack
    cdef uint8_t flags = p.tcp_flags
    if not p.flags & HAS_L4:
        return REJECT_FRAGMENT
    if p.proto != 6 or not p.flags & HAS_TCP:
        return REJECT_SHORT
    if flags & FLAG_RST:
        return REJECT_OF_ERROR
    if not checksum_good(p):
        return REJECT_CHECKSUM
    if not_unicast(c, p):
        return REJECT_NOT_UNICAST
    if unroutable(c, p):
        return REJECT_NO_ROUTE
    reply = new_reply(box)
    if reply == NULL:
        return REJECT_FULL
    reply.family = p.family
    reply.len = ip + 20
    h = reply.data
    if p.family == IPV4:
        ipv4_header(h, 40, 0, True, default_ttl(c), 6, destination(p), source(p))
    else:
        ipv6_header(h, 20, 64, 6, destination(p), source(p))
        reply.ifindex = p.ifin
    h += ip
    memset(h, 0, 20)
    memcpy(h, t + 2, 2)
    memcpy(h + 2, t, 2)
    h[12] = 0x50
    if flags & FLAG_ACK:
        memcpy(h + 4, t + 8, 4)
        h[13] = FLAG_RST
    else:
        doff = (t[12] >> 4) * 4
        payload = p.total - p.thoff - doff              # below 0 where the data offset lies: Linux counts it all the same
        ack = be32(t + 4) + payload + (1 if flags & FLAG_SYN else 0) + (1 if flags & FLAG_FIN else 0)
        put32(h + 8, ack)
        h[13] = FLAG_RST | FLAG_ACK
    put16(h + 16, fold(sum_bytes(h, 20, sum_pseudo(destination(p), source(p), 4 if p.family == IPV4 else 16, 20, 6))))
    return REJECT_SENT


cdef inline bint is_icmp4_error(const Packet* p) noexcept nogil:
    """An ICMP error, or a type the kernel does not know (or one too short to tell): never answered with an error."""
    cdef uint8_t kind
    if p.proto != 1:
        return False
    if p.len <= p.thoff:
        return True
    kind = p.data[p.thoff]
    return kind in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12) or kind > 18      # tests/flows/reject_icmp_types.flow


cdef inline uint32_t reject_icmp4(Packet* p, uint8_t kind, Context* c, Outbox* box, IcmpLimit* limit) noexcept nogil:
    """ICMP destination unreachable with as much of p as fits into 576 bytes."""
    cdef OutPacket* reply
    cdef uint8_t* h
    cdef uint32_t quoted = p.total if p.total < p.len else p.len
    cdef bint local
    if not p.flags & HAS_L4:
        return REJECT_FRAGMENT
    if not checksum_good(p):
        return REJECT_CHECKSUM
    if not_unicast(c, p):
        return REJECT_NOT_UNICAST
    if is_icmp4_error(p):
        return REJECT_OF_ERROR
    if unroutable(c, p):
        return REJECT_NO_ROUTE
    if not rate_allow(limit, c, p):
        return REJECT_RATE
    reply = new_reply(box)
    if reply == NULL:
        return REJECT_FULL
    if quoted > ICMP_ROOM - 28:
        quoted = ICMP_ROOM - 28
    reply.family = IPV4
    reply.len = 28 + quoted
    local = local_address(c.host, IPV4, destination(p)) != NULL or destination(p)[0] == 127
    ipv4_header(reply.data, reply.len, (p.tos & 0x1e) | 0xc0, False, default_ttl(c), 1, destination(p) if local else NULL, source(p))
    h = reply.data + 20
    memset(h, 0, 8)
    h[0] = 3
    h[1] = icmp4_code(kind)
    memcpy(h + 8, p.data, quoted)
    put16(h + 2, fold(sum_bytes(h, 8 + quoted, 0)))
    return REJECT_SENT


cdef inline void source6(Context* c, const Packet* p, uint8_t* out) noexcept nogil:
    """Source of an ICMPv6 error, 16 bytes: the packet's destination when it is ours, else the best address towards its sender by
    the device of the route to it (RFC 4443 2.2, RFC 6724); a link-local sender is answered where it was heard."""
    cdef const HostRoute* route = NULL
    cdef const uint8_t* to = source(p)
    if c.host != NULL and local_address(c.host, p.family, destination(p)) == NULL:
        if not (to[0] == 0xfe and (to[1] & 0xc0) == 0x80):
            route = route_to(c.host, p.family, to, 0)
        if masquerade6(c.host, p.ifin if route == NULL else route.ifindex, to, out):
            return
    memcpy(out, destination(p), 16)


cdef inline uint32_t reject_icmp6(Packet* p, uint8_t kind, Context* c, Outbox* box, IcmpLimit* limit) noexcept nogil:
    """ICMPv6 destination unreachable with as much of p as fits into 1,280 bytes."""
    cdef OutPacket* reply
    cdef uint8_t* h
    cdef uint8_t src[16]
    cdef uint32_t quoted = p.total if p.total < p.len else p.len
    if not p.flags & HAS_L4:
        return REJECT_FRAGMENT
    if not checksum_good(p):
        return REJECT_CHECKSUM
    if not_unicast(c, p):
        return REJECT_NOT_UNICAST
    if p.proto == 58 and (p.len <= p.thoff or not p.data[p.thoff] & 0x80):
        return REJECT_OF_ERROR
    if not rate_allow(limit, c, p):
        return REJECT_RATE
    reply = new_reply(box)
    if reply == NULL:
        return REJECT_FULL
    if quoted > ICMP6_ROOM - 48:
        quoted = ICMP6_ROOM - 48
    source6(c, p, src)
    reply.family = p.family
    reply.len = 48 + quoted
    reply.ifindex = p.ifin
    ipv6_header(reply.data, 8 + quoted, 64, 58, src, source(p))
    h = reply.data + 40
    memset(h, 0, 8)
    h[0] = 1
    h[1] = icmp6_code(kind)
    memcpy(h + 8, p.data, quoted)
    put16(h + 2, fold(sum_bytes(h, 8 + quoted, sum_pseudo(src, source(p), 16, 8 + quoted, 58))))
    return REJECT_SENT


cdef inline uint32_t reject(Packet* p, uint8_t kind, Context* c, Outbox* box, IcmpLimit* limit) noexcept nogil:
    """Queue the reply that a REJECT rule of this kind (ipt_reject_with, ip6t_reject_with) owes p.  RejectOutcome."""
    if p.family == IPV4:
        if kind == TCP_RESET_V4:
            return reject_reset(p, c, box)
        return reject_icmp4(p, kind, c, box, limit)
    if kind == TCP_RESET_V6:
        return reject_reset(p, c, box)
    return reject_icmp6(p, kind, c, box, limit)
