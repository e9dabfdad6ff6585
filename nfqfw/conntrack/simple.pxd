"""Trackers without a state machine: UDP, UDP-Lite, ICMP, ICMPv6, GRE, everything else.  Header-only.  spec/conntrack.md 1.3, 1.6.

Each protocol has a `_valid` (may these bytes be tracked at all?) and a `_track` (time-out, ASSURED).  RFC 768, 3828, 792,
4443, 2784, 2637.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from nfqfw._conn cimport ASSURED, CONFIRMED, CONN_HIDDEN, SEEN_REPLY, TICKS, ConnHot, ticks
from nfqfw.conntrack.table cimport (T_GENERIC, T_GRE, T_ICMP, T_ICMPV6, T_UDP, TRACK_ACCEPT,
                               TRACK_INVALID, Conntrack)
from nfqfw._packet cimport IPV4, Packet, be16, has, l4_len
from nfqfw.conntrack.track cimport assure, refresh, timeouts, transport_sum, verifiable


cdef enum:
    UDP_STREAM_SECONDS = 2      # a replied flow younger than this is no stream: DNS queries stay at the short time-out
    ICMP_TYPES = 18             # highest ICMPv4 type known to the kernel's tracker
    UNREPLIED = 0               # time-outs of UDP, UDP-Lite and GRE, in the order of their tunables
    REPLIED = 1
    GRE_PPP = 0x880b            # the only protocol that GRE version 1 (PPTP) carries


cdef struct GreConn:            # in place of ConnWindow
    uint32_t seconds[2]         # [UNREPLIED], [REPLIED]


cdef inline bint udp_valid(Conntrack* t, const Packet* p) noexcept nogil:
    """Header there, length field between 8 and what is left, checksum right or absent (also in IPv6, as in the kernel)."""
    cdef uint32_t length
    if not has(p, p.thoff, 8) or l4_len(p) < 8:
        return False
    length = be16(p.data + p.thoff + 4)
    if length < 8 or length > l4_len(p):
        return False
    if be16(p.data + p.thoff + 6) == 0:
        return True
    return not verifiable(t, p) or transport_sum(p, l4_len(p), 17) == 0


cdef inline bint udplite_valid(Conntrack* t, const Packet* p) noexcept nogil:
    """Coverage 0 (all) or 8..length; the checksum must be there (RFC 3828 3.1).

    Linux sums the pseudo-header with UDP's protocol number, 17, so a right UDP-Lite checksum (136) is INVALID there
    unless the device checked it or nf_conntrack_checksum is off.  Seen on 6.18 by the oracle; equal here.
    """
    cdef uint32_t coverage
    if not has(p, p.thoff, 8) or l4_len(p) < 8:
        return False
    coverage = be16(p.data + p.thoff + 4)
    if coverage == 0:
        coverage = l4_len(p)
    if coverage < 8 or coverage > l4_len(p) or be16(p.data + p.thoff + 6) == 0:
        return False
    return not verifiable(t, p) or transport_sum(p, coverage, 17) == 0


cdef inline int udp_track(Conntrack* t, const Packet* p, uint32_t i, uint32_t direction, bint fresh) noexcept nogil:
    """Short time-out until the flow has been answered and is older than two seconds; then a stream, and ASSURED."""
    cdef ConnHot* c = &t.table.hot[i]
    cdef const uint32_t* seconds = timeouts(t, i, T_UDP)
    if fresh:
        t.table.cold[i].stream_ts = ticks(t.now_ns) + UDP_STREAM_SECONDS * TICKS
    if not c.status & SEEN_REPLY:
        refresh(t, p, i, direction, seconds[UNREPLIED] * TICKS)
    elif c.status & ASSURED or <int32_t>(ticks(t.now_ns) - t.table.cold[i].stream_ts) > 0:
        refresh(t, p, i, direction, seconds[REPLIED] * TICKS)
        if not c.flags & CONN_HIDDEN:
            assure(t, i)
    else:
        refresh(t, p, i, direction, seconds[UNREPLIED] * TICKS)
    return TRACK_ACCEPT


cdef inline int udplite_track(Conntrack* t, const Packet* p, uint32_t i, uint32_t direction) noexcept nogil:
    """As UDP, without the two seconds."""
    cdef ConnHot* c = &t.table.hot[i]
    cdef const uint32_t* seconds = timeouts(t, i, T_UDP)
    if c.status & SEEN_REPLY:
        refresh(t, p, i, direction, seconds[REPLIED] * TICKS)
        if not c.flags & CONN_HIDDEN:
            assure(t, i)
    else:
        refresh(t, p, i, direction, seconds[UNREPLIED] * TICKS)
    return TRACK_ACCEPT


cdef inline bint icmp_starts(const Packet* p) noexcept nogil:
    """Only requests start a flow: echo, timestamp, information, address mask; IPv6: echo, node information."""
    if p.family == IPV4:
        return p.data[p.thoff] in (8, 13, 15, 17)
    return p.data[p.thoff] in (128, 139)


cdef inline int icmp_track(Conntrack* t, const Packet* p, uint32_t i, uint32_t direction, bint fresh) noexcept nogil:
    if fresh and not icmp_starts(p):
        return TRACK_INVALID
    refresh(t, p, i, direction, timeouts(t, i, T_ICMP if p.family == IPV4 else T_ICMPV6)[0] * TICKS)
    return TRACK_ACCEPT


cdef inline bint gre_key(const Packet* p, uint16_t* key) noexcept nogil:
    """Destination key: call id of version 1 (PPTP); 0 of version 0, and where it is cut off.  False: version 1 that carries no PPP."""
    key[0] = 0
    if not has(p, p.thoff, 8) or (p.data[p.thoff + 1] & 7) != 1:
        return True
    if be16(p.data + p.thoff + 2) != GRE_PPP:
        return False
    key[0] = be16(p.data + p.thoff + 6)
    return True


cdef inline int gre_track(Conntrack* t, const Packet* p, uint32_t i, uint32_t direction, bint fresh) noexcept nogil:
    """The entry keeps the time-outs that were in force when it began."""
    cdef ConnHot* c = &t.table.hot[i]
    cdef GreConn* kept = <GreConn*>&t.table.window[i]
    if not c.status & CONFIRMED:
        memcpy(kept.seconds, timeouts(t, i, T_GRE), sizeof(kept.seconds))
    if c.status & SEEN_REPLY:
        refresh(t, p, i, direction, kept.seconds[REPLIED] * TICKS)
        assure(t, i)
    else:
        refresh(t, p, i, direction, kept.seconds[UNREPLIED] * TICKS)
    return TRACK_ACCEPT


cdef inline int generic_track(Conntrack* t, const Packet* p, uint32_t i, uint32_t direction) noexcept nogil:
    refresh(t, p, i, direction, timeouts(t, i, T_GENERIC)[0] * TICKS)
    return TRACK_ACCEPT
