"""TCP tracker: state machine and window tracking.  Header-only.  spec/conntrack.md 1.3-1.5, RFC 9293, 5961, 7323, 2018.

Overview.  `tcp_valid` says whether the bytes are a segment; `tcp_track` joins (direction, kind, state) through the table of
tcp.py, applies the rules that no table can hold, asks `in_window`, and refreshes.  A segment is first read into `Segment`,
so nothing below looks at wire bytes.

Window tracking follows van Rooij, "Real stateful TCP packet filtering in IP Filter" (2000), as Linux does: for each side
the highest byte sent (`end`), the highest byte the peer permits (`maxend`) and the largest window seen (`maxwin`).  A
packet that fails a test is either not of the connection (INVALID) or let through without being believed (ignored).
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from nfqfw._atomic cimport fence
from nfqfw._conn cimport (ASSURED, CONFIRMED, REPLY, SEEN_REPLY, TELL_PROTOINFO, TICKS, ConnHot, ConnWindow, TcpSide, ticks)
from nfqfw.conntrack.table cimport (T_TCP_BE_LIBERAL, T_TCP_CLOSE, T_TCP_IGNORE_INVALID_RST, T_TCP_LOOSE, T_TCP_MAX_RETRANS,
                               T_TCP_RETRANS, T_TCP_SYN_SENT, T_TCP_UNACK, TRACK_ACCEPT, TRACK_INVALID, TRACK_KILL,
                               TRACK_REPEAT, Conntrack)
from nfqfw._packet cimport Packet, be16, be32, has, l4_len
from nfqfw.conntrack.track cimport assure, refresh, tell, timeouts, transport_sum, verifiable


cdef enum TcpState:             # order of tcp.STATES
    TCP_NONE = 0
    TCP_SYN_SENT = 1
    TCP_SYN_RECV = 2
    TCP_ESTABLISHED = 3
    TCP_FIN_WAIT = 4
    TCP_CLOSE_WAIT = 5
    TCP_LAST_ACK = 6
    TCP_TIME_WAIT = 7
    TCP_CLOSE = 8
    TCP_SYN_SENT2 = 9
    TCP_INVALID = 10            # cells of the table that are no state
    TCP_IGNORE = 11


cdef enum TcpKind:              # order of tcp.KINDS
    KIND_SYN = 0
    KIND_SYNACK = 1
    KIND_FIN = 2
    KIND_ACK = 3
    KIND_RST = 4
    KIND_NONE = 5


cdef enum TcpBit:
    BIT_FIN = 1
    BIT_SYN = 2
    BIT_RST = 4
    BIT_ACK = 16


cdef enum SideFlag:             # TcpSide.flags, ConnWindow.last_flags: IP_CT_TCP_FLAG_* of the kernel (conntrack -L shows none, -U sets them)
    SIDE_SCALE = 1              # sent a window scale option
    SIDE_SACK = 2               # sent SACK permitted
    SIDE_CLOSE_INIT = 4         # its FIN was the first
    SIDE_LIBERAL = 8            # failing window tests are forgiven
    SIDE_UNACKED = 16           # has sent data that was not acknowledged yet
    SIDE_MAXACK = 32            # maxack is known
    SIDE_CHALLENGE = 64         # last_flags only: a challenge ACK may follow
    SIDE_SIMULTANEOUS = 128     # last_flags only: both sides sent a SYN


cdef enum:
    ACK_WINDOW_MIN = 66000      # an ACK may be this far behind, however small the window
    SCALE_MAX = 14              # RFC 7323 2.3


cdef enum Fit:                  # what in_window says
    FIT = 0
    FIT_IGNORE = 1
    FIT_INVALID = 2


cdef struct Segment:
    uint32_t seq
    uint32_t ack
    uint32_t sack               # right edge of the newest SACK block, or ack
    uint32_t end                # seq + payload + SYN + FIN
    uint32_t window             # as sent, unscaled
    uint8_t flags               # byte 13
    uint8_t kind                # TcpKind
    uint16_t options            # bytes of options captured
    const uint8_t* option       # first of them


cdef inline bint before(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) < 0


cdef inline bint after(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(b - a) < 0


cdef inline uint8_t kind_of(uint8_t flags) noexcept nogil:
    if flags & BIT_RST:
        return KIND_RST
    if flags & BIT_SYN:
        return KIND_SYNACK if flags & BIT_ACK else KIND_SYN
    if flags & BIT_FIN:
        return KIND_FIN
    return KIND_ACK if flags & BIT_ACK else KIND_NONE


cdef inline bint tcp_valid(Conntrack* t, const Packet* p) noexcept nogil:
    """True if the bytes are a TCP segment whose checksum, where it can be tested, is right and whose flags may be."""
    cdef uint32_t offset
    if not has(p, p.thoff, 20) or l4_len(p) < 20:
        return False
    offset = (p.data[p.thoff + 12] >> 4) * 4
    if offset < 20 or offset > l4_len(p):
        return False
    if verifiable(t, p) and transport_sum(p, l4_len(p), 6) != 0:
        return False
    return t.tcp_valid[p.data[p.thoff + 13]]


cdef inline void read_segment(const Packet* p, Segment* s) noexcept nogil:
    """Header fields of a packet that tcp_valid has passed."""
    cdef const uint8_t* h = p.data + p.thoff
    cdef uint32_t offset = (h[12] >> 4) * 4
    s.seq = be32(h + 4)
    s.ack = s.sack = be32(h + 8)
    s.flags = h[13]
    s.window = be16(h + 14)
    s.kind = kind_of(s.flags)
    s.end = s.seq + l4_len(p) - offset + (1 if s.flags & BIT_SYN else 0) + (1 if s.flags & BIT_FIN else 0)
    s.option = h + 20
    s.options = <uint16_t>(offset - 20) if has(p, p.thoff, offset) else 0


cdef inline void read_syn_options(const Segment* s, TcpSide* side) noexcept nogil:
    """Window scale and SACK permitted of a SYN; what the side said before is forgotten if there are any."""
    cdef uint32_t at = 0, kind, size
    if s.options == 0:
        return
    side.scale = 0
    side.flags &= SIDE_LIBERAL
    while at < s.options:
        kind = s.option[at]
        if kind == 0:
            return
        if kind == 1:
            at += 1
            continue
        if at + 1 >= s.options:
            return
        size = s.option[at + 1]
        if size < 2 or at + size > s.options:
            return
        if kind == 4 and size == 2:
            side.flags |= SIDE_SACK
        elif kind == 3 and size == 3:
            side.scale = s.option[at + 2] if s.option[at + 2] < SCALE_MAX else SCALE_MAX
            side.flags |= SIDE_SCALE
        at += size


cdef inline void read_sack(Segment* s) noexcept nogil:
    """Raise s.sack to the highest right edge of the SACK blocks (RFC 2018)."""
    cdef uint32_t at = 0, kind, size, block, edge
    while at < s.options:
        kind = s.option[at]
        if kind == 0:
            return
        if kind == 1:
            at += 1
            continue
        if at + 1 >= s.options:
            return
        size = s.option[at + 1]
        if size < 2 or at + size > s.options:
            return
        if kind == 5 and size >= 10 and (size - 2) % 8 == 0:
            for block in range((size - 2) >> 3):
                edge = be32(s.option + at + 2 + 8 * block + 4)
                if after(edge, s.sack):
                    s.sack = edge
            return
        at += size


cdef inline void init_from_syn(TcpSide* own, TcpSide* peer, const Segment* s, uint32_t direction) noexcept nogil:
    """A direction's first SYN, or one that starts it anew.  Scaling holds only if both sides offered it (RFC 7323 2.2)."""
    read_syn_options(s, own)
    own.end = s.end
    own.maxend = s.end
    own.maxwin = s.window if s.window else 1
    if direction == REPLY and not (own.flags & SIDE_SCALE and peer.flags & SIDE_SCALE):
        own.scale = 0
        peer.scale = 0


cdef inline void init_midstream(TcpSide* own, TcpSide* peer, const Segment* s) noexcept nogil:
    """First packet of a direction that is no SYN: its history is lost, take what the packet says."""
    cdef uint32_t window = s.window << own.scale
    own.end = s.end
    own.maxwin = window if window else 1
    own.maxend = s.end + own.maxwin
    if peer.maxwin == 0:
        peer.end = s.sack           # nothing seen of the peer: let tests III and IV pass until there is
        peer.maxend = s.sack
    elif s.sack == peer.end + 1:
        peer.end += 1               # an answer to a keep-alive


cdef inline int forgive(const Conntrack* t, const TcpSide* own, int fit) noexcept nogil:
    """The verdict of a failed test; a liberal side, or setting, turns it into a pass."""
    return FIT if own.flags & SIDE_LIBERAL or t.tunable[T_TCP_BE_LIBERAL] else fit


cdef inline void learn(ConnWindow* w, TcpSide* own, TcpSide* peer, const Segment* s, uint32_t direction) noexcept nogil:
    """A segment passed every test: what it says about both sides."""
    cdef uint32_t window = s.window if s.flags & BIT_SYN else s.window << own.scale
    cdef uint32_t reach = window + (s.sack - s.ack), again
    if own.maxwin < reach:
        own.maxwin = reach
    if after(s.end, own.end):
        own.end = s.end
        own.flags |= SIDE_UNACKED
    if s.flags & BIT_ACK and (not own.flags & SIDE_MAXACK or after(s.ack, own.maxack)):
        own.maxack = s.ack
        own.flags |= SIDE_MAXACK
    if peer.maxwin != 0 and after(s.end, own.maxend):
        peer.maxwin += s.end - own.maxend
    if after(s.sack + window, peer.maxend - 1):
        peer.maxend = s.sack + window
        if window == 0:
            peer.maxend += 1
    if s.ack == peer.end:
        peer.flags &= ~<uint32_t>SIDE_UNACKED
    if s.kind != KIND_ACK:
        return
    # no branch: whether the last packet came from the same side is chance
    again = ((w.last_dir ^ direction) | (w.last_seq ^ s.seq) | (w.last_ack ^ s.ack) | (w.last_end ^ s.end) | (w.last_win ^ s.window)) == 0
    w.retrans = <uint8_t>((w.retrans + (w.retrans < 255)) * again)
    w.last_dir = <uint8_t>direction
    w.last_seq = s.seq
    w.last_ack = s.ack
    w.last_end = s.end
    w.last_win = <uint16_t>s.window


cdef inline int in_window(const Conntrack* t, ConnWindow* w, uint8_t state, Segment* s, uint32_t direction) noexcept nogil:
    """Does the segment fit what both sides have said?  Learns from it if it does."""
    cdef TcpSide* own = &w.side[direction]
    cdef TcpSide* peer = &w.side[1 - direction]
    cdef uint32_t overshoot, behind
    cdef bint in_receive_window, ack_fresh
    if peer.flags & SIDE_SACK and s.flags & BIT_ACK:
        read_sack(s)
    if own.maxwin == 0 or (s.flags & BIT_SYN and after(s.end, own.end) and state in (TCP_SYN_SENT, TCP_SYN_RECV)):
        if s.flags & BIT_SYN:
            init_from_syn(own, peer, s, direction)
            if direction == REPLY and not s.flags & BIT_ACK:
                return FIT          # simultaneous open
        elif own.maxwin == 0:
            init_midstream(own, peer, s)
    if not s.flags & BIT_ACK or (s.flags & BIT_RST and s.ack == 0):
        s.ack = s.sack = peer.end   # some stacks set ACK in a RST and leave the number zero
    if s.flags & BIT_RST and s.seq == 0 and state == TCP_SYN_SENT:
        s.seq = s.end = own.end     # a RST that answers a SYN
    behind = own.maxwin if own.maxwin > ACK_WINDOW_MIN else ACK_WINDOW_MIN
    in_receive_window = peer.maxwin == 0 or after(s.end, own.end - peer.maxwin - 1)
    ack_fresh = after(s.sack, peer.end - behind - 1)
    if not before(s.seq, own.maxend + 1):
        overshoot = s.end - own.maxend + 1
        if in_receive_window and ack_fresh and before(s.sack, peer.end + 1) and overshoot <= peer.maxwin:
            own.end = s.end         # the peer may take it and acknowledge it: that ACK must not look like a forged one
            own.flags |= SIDE_UNACKED
            return forgive(t, own, FIT_IGNORE)
        return forgive(t, own, FIT_INVALID)
    if not before(s.sack, peer.end + 1):
        return forgive(t, own, FIT_INVALID)
    if not in_receive_window or not ack_fresh:
        return forgive(t, own, FIT_IGNORE)
    learn(w, own, peer, s, direction)
    return FIT


cdef inline bint tcp_begin(const Conntrack* t, ConnWindow* w, const Segment* s) noexcept nogil:
    """First packet of a new entry.  False: no connection starts with it."""
    cdef uint8_t next_state = t.tcp_next[s.kind * 10]
    if next_state >= TCP_INVALID:
        return False
    if next_state != TCP_SYN_SENT and not t.tunable[T_TCP_LOOSE]:
        return False
    w.side[0].end = s.end
    w.side[0].maxwin = s.window if s.window else 1
    w.side[0].maxend = s.end
    if next_state == TCP_SYN_SENT:
        read_syn_options(s, &w.side[0])
    else:                           # picked up in the middle: scale and history are unknown
        w.side[0].maxend = s.end + w.side[0].maxwin
        w.side[0].flags = SIDE_SACK | SIDE_LIBERAL
        w.side[1].flags = SIDE_SACK | SIDE_LIBERAL
    w.last_index = KIND_NONE
    return True


cdef inline bint closing(uint8_t state) noexcept nogil:
    return state in (TCP_FIN_WAIT, TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_TIME_WAIT, TCP_CLOSE)


cdef inline bint may_reopen(const ConnWindow* w, uint32_t direction) noexcept nogil:
    """A SYN on a finished connection starts a new one if it was closed in order, or this side had reset it."""
    return ((w.side[0].flags | w.side[1].flags) & SIDE_CLOSE_INIT) != 0 or (w.last_dir == direction and w.last_index == KIND_RST)


cdef inline bint resync(ConnWindow* w, const Segment* s, uint32_t direction) noexcept nogil:
    """A SYN+ACK that acknowledges exactly the SYN ignored before: the two ends agree, we were wrong; take over what it said."""
    cdef TcpSide* own
    cdef uint8_t flags
    if s.kind != KIND_SYNACK or w.last_index != KIND_SYN or w.last_dir == direction or s.ack != w.last_end:
        return False
    own = &w.side[w.last_dir]
    own.end = w.last_end
    own.maxend = w.last_end
    own.maxwin = w.last_win if w.last_win else 1
    own.scale = w.last_wscale
    w.last_flags &= ~<uint32_t>SIDE_CHALLENGE
    own.flags = w.last_flags
    own = &w.side[direction]
    flags = own.flags & SIDE_LIBERAL            # all else that it said is forgotten
    memset(own, 0, sizeof(TcpSide))
    own.flags = flags
    return True


cdef inline void remember_ignored(ConnWindow* w, uint8_t state, const Segment* s, uint32_t direction) noexcept nogil:
    """An ignored packet may be the true start of a connection that we do not know: keep what its answer is judged by."""
    cdef TcpSide seen
    w.last_index = s.kind
    w.last_dir = <uint8_t>direction
    w.last_seq = s.seq
    w.last_end = s.end
    w.last_win = <uint16_t>s.window
    if s.kind == KIND_SYN and direction == 0:
        memset(&seen, 0, sizeof(TcpSide))
        read_syn_options(s, &seen)
        w.last_flags = seen.flags
        w.last_wscale = seen.scale
        if state == TCP_LAST_ACK:
            w.last_flags |= SIDE_CHALLENGE      # RFC 5961 4.2: the answer to it looks like the last ACK
    if state == TCP_SYN_SENT and s.kind == KIND_ACK and direction == REPLY:
        w.last_ack = s.ack                      # a challenge ACK to a SYN: the RST it provokes carries this number


cdef inline int judge_rst(const Conntrack* t, const ConnHot* c, const ConnWindow* w, const Segment* s, uint32_t direction,
                          uint8_t* next_state, bint* skip_window) noexcept nogil:
    """RFC 5961 3.2 as Linux has it: an exact RST closes, one that is merely in the window does not, an old one is INVALID."""
    cdef const TcpSide* peer = &w.side[1 - direction]
    cdef bint established = c.state == TCP_ESTABLISHED and c.status & ASSURED
    if closing(c.state):
        skip_window[0] = True
        return TRACK_ACCEPT
    if c.state == TCP_SYN_SENT and w.last_index == KIND_ACK and s.seq == w.last_ack:
        skip_window[0] = True                   # it answers the challenge ACK that answered the SYN
        return TRACK_ACCEPT
    if peer.flags & SIDE_MAXACK and w.last_index != KIND_SYN:
        if s.seq == 0 and not established:
            return TRACK_ACCEPT                 # most likely the answer to a SYN that was let through
        if before(s.seq, peer.maxack) and not t.tunable[T_TCP_IGNORE_INVALID_RST]:
            return TRACK_INVALID
        if not established or s.seq == peer.maxack:
            return TRACK_ACCEPT
        if w.last_index == KIND_ACK and w.last_dir == direction and s.seq == w.last_end:
            return TRACK_ACCEPT                 # it follows its own data
        next_state[0] = c.state                 # not exact: a challenge ACK may answer it
    if w.last_dir != direction and s.ack == w.last_end and (
            (c.status & SEEN_REPLY and w.last_index == KIND_SYN) or (not c.status & ASSURED and w.last_index == KIND_ACK)):
        skip_window[0] = True                   # it answers a SYN or ACK that was ignored
    return TRACK_ACCEPT


cdef inline uint32_t choose_timeout(const Conntrack* t, const uint32_t* seconds, const ConnWindow* w, uint8_t state, uint8_t kind) noexcept nogil:
    """Ticks; a connection that looks stuck gets less than its state would give."""
    cdef uint32_t normal = seconds[state - 1], stuck = seconds[T_TCP_RETRANS - T_TCP_SYN_SENT], unacked = seconds[T_TCP_UNACK - T_TCP_SYN_SENT]
    cdef uint32_t short_time = normal
    if w.retrans >= t.tunable[T_TCP_MAX_RETRANS] and normal > stuck:
        short_time = stuck
    elif kind == KIND_RST:
        short_time = seconds[T_TCP_CLOSE - T_TCP_SYN_SENT]
    elif (w.side[0].flags | w.side[1].flags) & SIDE_UNACKED and normal > unacked:
        short_time = unacked
    elif w.last_win == 0 and normal > stuck:
        short_time = stuck
    return short_time * TICKS


cdef inline void lower_invalid(const Conntrack* t, uint32_t i, ConnHot* c, ConnWindow* w, const Segment* s, uint32_t direction) noexcept nogil:
    """FIN or RST out of the window from both sides: the ends have lost each other, do not keep the entry for days."""
    cdef uint32_t now = ticks(t.now_ns), left, unacked
    if (s.kind != KIND_RST and s.kind != KIND_FIN) or not c.status & ASSURED:
        return
    if w.last_dir != direction and w.last_index in (KIND_FIN, KIND_RST):
        left = c.expires - now
        unacked = timeouts(t, i, T_TCP_SYN_SENT)[T_TCP_UNACK - T_TCP_SYN_SENT] * TICKS
        if left >= 120 * TICKS and left > unacked and c.status & CONFIRMED:
            c.expires = now + unacked
    else:
        w.last_index = s.kind
        w.last_dir = <uint8_t>direction


cdef inline int tcp_settle(Conntrack* t, const Packet* p, uint32_t i, uint32_t direction, const Segment* s,
                           uint8_t old_state, uint8_t next_state) noexcept nogil:
    """The segment is of the connection: new state, ASSURED, time-out."""
    cdef ConnHot* c = &t.table.hot[i]
    cdef ConnWindow* w = &t.table.window[i]
    cdef const uint32_t* seconds = timeouts(t, i, T_TCP_SYN_SENT)
    cdef uint32_t timeout
    w.last_index = s.kind
    w.last_dir = <uint8_t>direction
    if next_state != c.state:
        tell(t, i, TELL_PROTOINFO)
        c.state = next_state
    if old_state != next_state and next_state == TCP_FIN_WAIT:
        w.side[direction].flags |= SIDE_CLOSE_INIT
    timeout = choose_timeout(t, seconds, w, next_state, s.kind)
    if not c.status & SEEN_REPLY:
        if s.flags & BIT_RST:
            return TRACK_KILL                   # refused: there never was a connection
        if s.kind == KIND_SYN and old_state == TCP_SYN_SENT:
            return TRACK_ACCEPT                 # a repeated SYN does not keep the entry (and its NAT) for ever
        if next_state == TCP_ESTABLISHED and timeout > seconds[T_TCP_UNACK - T_TCP_SYN_SENT] * TICKS:
            timeout = seconds[T_TCP_UNACK - T_TCP_SYN_SENT] * TICKS
    elif old_state in (TCP_SYN_RECV, TCP_ESTABLISHED) and next_state == TCP_ESTABLISHED:
        assure(t, i)
    refresh(t, p, i, direction, timeout)
    return TRACK_ACCEPT


cdef inline int tcp_move(Conntrack* t, const Packet* p, uint32_t i, uint32_t direction, Segment* s) noexcept nogil:
    """One segment through table, rules and window."""
    cdef ConnHot* c = &t.table.hot[i]
    cdef ConnWindow* w = &t.table.window[i]
    cdef uint8_t old_state = c.state
    cdef uint8_t next_state = t.tcp_next[(direction * 6 + s.kind) * 10 + old_state]
    cdef bint skip_window = False
    cdef int fit
    if next_state == TCP_SYN_SENT and old_state >= TCP_TIME_WAIT:
        if may_reopen(w, direction):
            return TRACK_REPEAT
        next_state = TCP_IGNORE
    if next_state == TCP_INVALID:
        return TRACK_INVALID
    if next_state == TCP_IGNORE:
        if not resync(w, s, direction):
            remember_ignored(w, old_state, s, direction)
            return TRACK_ACCEPT
        old_state = TCP_SYN_SENT
        next_state = TCP_SYN_RECV
    elif next_state == TCP_TIME_WAIT:
        if (old_state == TCP_LAST_ACK and s.kind == KIND_ACK and w.last_dir != direction and w.last_index == KIND_SYN
                and w.last_flags & SIDE_CHALLENGE):
            w.last_flags &= ~<uint32_t>SIDE_CHALLENGE
            return TRACK_ACCEPT                 # a challenge ACK, not the ACK of the last FIN
    elif next_state == TCP_SYN_SENT2:
        w.last_flags |= SIDE_SIMULTANEOUS
    elif next_state == TCP_SYN_RECV:
        if direction == REPLY and s.kind == KIND_ACK and w.last_flags & SIDE_SIMULTANEOUS:
            next_state = TCP_ESTABLISHED
    elif next_state == TCP_CLOSE and s.kind == KIND_RST:
        if judge_rst(t, c, w, s, direction, &next_state, &skip_window) == TRACK_INVALID:
            return TRACK_INVALID
    if not skip_window:
        fit = in_window(t, w, c.state, s, direction)
        if fit == FIT_IGNORE:
            return TRACK_ACCEPT
        if fit == FIT_INVALID:
            lower_invalid(t, i, c, w, s, direction)
            return TRACK_INVALID
    return tcp_settle(t, p, i, direction, s, old_state, next_state)


cdef inline int tcp_track(Conntrack* t, const Packet* p, uint32_t i, uint32_t direction, bint fresh) noexcept nogil:
    """A packet that tcp_valid has passed, on entry i.  The window line is guarded, see ConnWindow.guard."""
    cdef ConnWindow* w = &t.table.window[i]
    cdef Segment s
    cdef int track
    read_segment(p, &s)
    if fresh:
        memset(w, 0, sizeof(ConnWindow))
        if not tcp_begin(t, w, &s):
            return TRACK_INVALID
    w.guard |= 1
    fence()
    track = tcp_move(t, p, i, direction, &s)
    fence()
    w.guard += 1
    return track
