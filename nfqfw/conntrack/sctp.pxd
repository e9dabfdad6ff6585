"""SCTP tracker.  Header-only.  spec/conntrack.md 1.3, 1.6; RFC 9260 (8.5: verification tags).

Overview.  A packet is a common header and chunks; `sctp_valid` looks at their shape, `sctp_track` runs each chunk through
the table of sctp.py.  `vtag[d]` is the verification tag that packets in direction d must carry: INIT and INIT ACK announce
the one for the other direction, HEARTBEAT of a connection picked up late its own.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from nfqfw._atomic cimport fence
from nfqfw._conn cimport CONFIRMED, REPLY, TELL_PROTOINFO, TICKS, ConnHot, ConnWindow
from nfqfw.conntrack.table cimport T_SCTP_CLOSED, TRACK_ACCEPT, TRACK_INVALID, Conntrack
from nfqfw._packet cimport Packet, be16, be32, has, l4_len
from nfqfw.conntrack.track cimport assure, refresh, tell, timeouts, verifiable


cdef enum SctpState:            # order of sctp.STATES
    SCTP_NONE = 0
    SCTP_CLOSED = 1
    SCTP_ESTABLISHED = 4
    SCTP_INVALID = 9


cdef enum Chunk:
    CHUNK_DATA = 0
    CHUNK_INIT = 1
    CHUNK_INIT_ACK = 2
    CHUNK_HEARTBEAT = 4
    CHUNK_HEARTBEAT_ACK = 5
    CHUNK_ABORT = 6
    CHUNK_SHUTDOWN_ACK = 8
    CHUNK_COOKIE_ECHO = 10
    CHUNK_COOKIE_ACK = 11
    CHUNK_SHUTDOWN_COMPLETE = 14


cdef enum:
    SCTP_HEADER = 12
    CHUNK_FLAG_T = 1            # ABORT, SHUTDOWN COMPLETE: the tag is the receiver's own, reflected


cdef struct SctpConn:           # lies in the entry's window line; first and last word as in ConnWindow
    uint32_t vtag[2]            # expected in [ORIGINAL], [REPLY], wire order; 0 = not known
    uint8_t init[2]             # an INIT was seen in this direction and not yet a COOKIE ACK
    uint8_t last_dir            # direction of the heartbeat whose tag was wrong
    uint8_t heartbeat_failed


cdef inline bint has_row(uint32_t types, uint8_t chunk) noexcept nogil:
    return (types >> chunk) & 1 if chunk < 32 else False


cdef inline bint sctp_sum_right(const Conntrack* t, const Packet* p) noexcept nogil:
    """CRC-32C over the packet with the checksum field taken as zero (RFC 9260 6.8, appendix A)."""
    cdef const uint8_t* h = p.data + p.thoff
    cdef uint32_t n = l4_len(p), i
    cdef uint32_t crc = 0xffffffffU
    cdef uint8_t byte
    for i in range(n):
        byte = 0 if 8 <= i < 12 else h[i]
        crc = (crc >> 8) ^ t.crc32c[(crc ^ byte) & 255]
    crc = ~crc
    return h[8] == (crc & 255) and h[9] == ((crc >> 8) & 255) and h[10] == ((crc >> 16) & 255) and h[11] == (crc >> 24)


cdef inline bint sctp_valid(Conntrack* t, const Packet* p) noexcept nogil:
    """Header there and the CRC right, where it can be tested."""
    if not has(p, p.thoff, SCTP_HEADER) or l4_len(p) < SCTP_HEADER:
        return False
    return not verifiable(t, p) or sctp_sum_right(t, p)


cdef inline bint next_chunk(const Packet* p, uint32_t* at, uint8_t* kind, uint8_t* flags) noexcept nogil:
    """Read the chunk at `at` and step behind it.  False: there is no more."""
    cdef uint32_t end = p.thoff + l4_len(p)
    if at[0] >= end or not has(p, at[0], 4) or at[0] + 4 > end:
        return False
    kind[0] = p.data[at[0]]
    flags[0] = p.data[at[0] + 1]
    at[0] += (<uint32_t>be16(p.data + at[0] + 2) + 3) & 0xfffffffcU
    return True


cdef inline bint chunks_well_placed(const Packet* p, uint32_t* types) noexcept nogil:
    """No chunk of length 0; cookies first, INIT, INIT ACK and SHUTDOWN COMPLETE alone; at least one chunk."""
    cdef uint32_t at = p.thoff + SCTP_HEADER, start, n = 0
    cdef uint8_t kind = 0, flags = 0
    cdef bint alone = False
    types[0] = 0
    while True:
        start = at
        if not next_chunk(p, &at, &kind, &flags):
            break
        if kind in (CHUNK_INIT, CHUNK_INIT_ACK, CHUNK_SHUTDOWN_COMPLETE):
            alone = True
        if (n and (alone or kind == CHUNK_COOKIE_ACK or kind == CHUNK_COOKIE_ECHO)) or be16(p.data + start + 2) == 0:
            return False
        if kind < 32:
            types[0] |= <uint32_t>1 << kind
        n += 1
    return n != 0


cdef inline bint sctp_begin(const Conntrack* t, const Packet* p, SctpConn* c) noexcept nogil:
    """First packet of a new entry.  False: no connection starts with it."""
    cdef uint32_t at = p.thoff + SCTP_HEADER, start, tag = be32(p.data + p.thoff + 4)
    cdef uint8_t kind = 0, flags = 0, next_state
    memset(c, 0, sizeof(SctpConn))
    while True:
        start = at
        if not next_chunk(p, &at, &kind, &flags):
            return True
        if t.sctp_row[kind] == 255:
            return False
        next_state = t.sctp_next[t.sctp_row[kind] * 9]
        if next_state == SCTP_NONE or next_state == SCTP_INVALID:
            return False
        if kind == CHUNK_INIT:
            if tag or not has(p, start, 8):
                return False
            c.vtag[1] = be32(p.data + start + 4)
            c.init[0] = 1
        elif kind == CHUNK_HEARTBEAT:
            c.vtag[0] = tag
        elif kind == CHUNK_SHUTDOWN_ACK:        # out of the blue: its answer, SHUTDOWN COMPLETE, will reflect the tag
            c.vtag[1] = tag


cdef inline bint tag_right(SctpConn* c, uint32_t types, uint8_t kind, uint8_t flags, uint32_t tag, uint32_t direction,
                           bint* ignore) noexcept nogil:
    """RFC 9260 8.5.1 and what Linux adds for heartbeats.  `ignore`: let through, but believe nothing."""
    cdef uint32_t expected = c.vtag[direction]
    if kind == CHUNK_INIT:
        return tag == 0
    if kind == CHUNK_ABORT or kind == CHUNK_SHUTDOWN_COMPLETE:
        return tag == (c.vtag[1 - direction] if flags & CHUNK_FLAG_T else expected)
    if kind == CHUNK_COOKIE_ECHO:
        return tag == expected
    if kind == CHUNK_COOKIE_ACK:
        c.init[0] = c.init[1] = 0
    elif kind == CHUNK_HEARTBEAT or kind == CHUNK_HEARTBEAT_ACK:
        if expected == 0:
            c.vtag[direction] = tag
        elif tag == expected:
            c.heartbeat_failed = 0
        elif has_row(types, CHUNK_DATA) or ignore[0]:
            return False
        elif kind == CHUNK_HEARTBEAT:           # the peer may have started anew: wait for its answer
            c.heartbeat_failed = 1
            c.last_dir = <uint8_t>direction
            ignore[0] = True
        elif not c.heartbeat_failed or c.last_dir == direction:
            return False
        else:
            c.heartbeat_failed = 0
            c.vtag[direction] = tag
            c.vtag[1 - direction] = 0
    return True


cdef inline bint learn_tag(SctpConn* c, uint8_t kind, uint32_t announced, uint32_t direction) noexcept nogil:
    """INIT and INIT ACK announce the tag of the other direction.  False: it does not fit one announced before."""
    cdef uint32_t known = c.vtag[1 - direction]
    if kind == CHUNK_INIT:
        if known == announced and known:
            return True                         # a stale or forged INIT: it announces nothing new
        if c.init[direction] and c.init[1 - direction]:
            c.init[1 - direction] = 0
        c.init[direction] = 1
    else:
        if not c.init[1 - direction] and known and known != announced:
            return False
        if c.init[direction] and c.init[1 - direction] and known != announced:
            return False                        # both sides opened: the tag was said already
    c.vtag[1 - direction] = announced
    return True


cdef inline bint plain_tag(uint32_t types) noexcept nogil:
    """True if no chunk of the packet judges the tag by itself."""
    return types & ((1 << CHUNK_INIT) | (1 << CHUNK_SHUTDOWN_COMPLETE) | (1 << CHUNK_COOKIE_ECHO) | (1 << CHUNK_ABORT)
                    | (1 << CHUNK_SHUTDOWN_ACK) | (1 << CHUNK_HEARTBEAT) | (1 << CHUNK_HEARTBEAT_ACK)) == 0


cdef inline int sctp_track(Conntrack* t, const Packet* p, uint32_t i, uint32_t direction, bint fresh) noexcept nogil:
    cdef ConnHot* hot = &t.table.hot[i]
    cdef SctpConn* c = <SctpConn*>&t.table.window[i]
    cdef uint32_t at = p.thoff + SCTP_HEADER, start, types = 0, tag = be32(p.data + p.thoff + 4)
    cdef uint8_t kind = 0, flags = 0, old_state, next_state = hot.state
    cdef bint ignore = False
    if not chunks_well_placed(p, &types):
        return TRACK_INVALID
    if fresh and not sctp_begin(t, p, c):
        return TRACK_INVALID
    if plain_tag(types) and tag != c.vtag[direction]:
        return TRACK_INVALID
    while True:
        start = at
        if not next_chunk(p, &at, &kind, &flags):
            break
        if not tag_right(c, types, kind, flags, tag, direction, &ignore):
            return TRACK_INVALID
        if ignore and kind == CHUNK_HEARTBEAT:
            continue
        old_state = hot.state
        next_state = old_state
        if t.sctp_row[kind] != 255:
            next_state = t.sctp_next[(direction * 11 + t.sctp_row[kind]) * 9 + old_state]
        if next_state == SCTP_INVALID:
            return TRACK_INVALID
        if (kind == CHUNK_INIT or kind == CHUNK_INIT_ACK) and (
                not has(p, start, 8) or not learn_tag(c, kind, be32(p.data + start + 4), direction)):
            return TRACK_INVALID
        if kind == CHUNK_INIT and old_state == SCTP_CLOSED and next_state == SCTP_CLOSED and hot.status & CONFIRMED:
            ignore = True                       # a repeated INIT does not keep the entry (and its NAT) for ever
        if next_state != old_state:
            hot.state = next_state
            tell(t, i, TELL_PROTOINFO)
            if next_state == SCTP_ESTABLISHED:
                assure(t, i)
    if not ignore:
        refresh(t, p, i, direction, timeouts(t, i, T_SCTP_CLOSED)[next_state - 1] * TICKS)
    return TRACK_ACCEPT
