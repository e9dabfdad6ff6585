"""match conntrack, and state, which is a part of it.  Header-only.

Without a connection only --ctstate is looked at: if it is given and holds, the match is true whatever else is asked;
without it the match is false, inverted options included (spec/iptables.md 4.9).  Behind a CT rule the raw table sees that
rule's template instead of a connection: NEW, CONFIRMED, and addresses, protocol and ports that are all zero.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from nfqfw._conn cimport CONFIRMED, DST_NAT, ORIGINAL, REPLY, SRC_NAT, TEMPLATE, ConnHot, Tuple, direction_of, read_tuple, ticks
from nfqfw._packet cimport CT_UNTRACKED, Packet
from nfqfw._program cimport RAW, Context
from nfqfw.ext.rule cimport Address6Info, same6


cdef enum StateBit:
    STATE_INVALID = 1
    STATE_NEW = 8
    STATE_SNAT = 64
    STATE_DNAT = 128
    STATE_UNTRACKED = 256


cdef enum ConntrackAsked:       # bits of ConntrackInfo.asked and .invert
    ASK_STATE = 1
    ASK_PROTO = 2
    ASK_ORIGSRC = 4
    ASK_ORIGDST = 8
    ASK_REPLSRC = 16
    ASK_REPLDST = 32
    ASK_STATUS = 64
    ASK_EXPIRES = 128
    ASK_ORIGSRC_PORT = 256
    ASK_ORIGDST_PORT = 512
    ASK_REPLSRC_PORT = 1024
    ASK_REPLDST_PORT = 2048
    ASK_DIRECTION = 4096


cdef struct ConntrackInfo:      # "<HHHHIIBBHII" + 4 x "<16s16sI" + "<8H"
    uint16_t asked              # ConntrackAsked
    uint16_t invert
    uint16_t state              # StateBit and 1 << (ctinfo % 3 + 1)
    uint16_t status             # Status
    uint32_t expires[2]         # seconds, lowest and highest
    uint8_t proto
    uint8_t direction           # Direction
    uint16_t pad
    uint32_t pad2[2]
    Address6Info address[4]     # original source, original destination, reply source, reply destination; invert unused
    uint16_t ports[8]           # the same order, lowest and highest of each


cdef struct StateInfo:          # "<I"
    uint32_t state              # StateBit


cdef inline bint shows_template(const Packet* p, const Context* c) noexcept nogil:
    return p.conn == 0 and p.ct_template != 0 and c.table == RAW


cdef inline uint32_t state_bit(const Packet* p, const Context* c) noexcept nogil:
    """The class of a packet as one bit: INVALID 1, ESTABLISHED 2, RELATED 4, NEW 8, UNTRACKED 256."""
    if p.conn != 0:
        return <uint32_t>1 << (p.ctinfo % 3 + 1)
    if shows_template(p, c):
        return STATE_NEW
    return STATE_UNTRACKED if p.ctinfo == CT_UNTRACKED else STATE_INVALID


cdef inline bint m_state(Packet* p, const StateInfo* info, Context* c) noexcept nogil:
    return (state_bit(p, c) & info.state) != 0


cdef inline bint asked_and_false(const ConntrackInfo* info, uint32_t what, bint truth) noexcept nogil:
    return (info.asked & what) and (truth == ((info.invert & what) != 0))


cdef inline bint within(const uint16_t* ends, uint16_t port) noexcept nogil:
    return ends[0] <= port <= ends[1]


cdef inline uint32_t seconds_left(const ConnHot* hot, Context* c) noexcept nogil:
    """Rounded down.  An unconfirmed entry's timer has not started: 0, as in the kernel; one that this packet ended has what was left."""
    cdef int32_t left
    if not hot.status & CONFIRMED:
        return 0
    left = <int32_t>(hot.expires - ticks(c.now))
    return <uint32_t>left // 100 if left > 0 else 0


cdef inline bint tuples_match(Packet* p, const ConntrackInfo* info, Context* c) noexcept nogil:
    """Addresses, protocol and ports of both tuples.  Of connection 0 nothing was ever written: the zeros of a template."""
    cdef Tuple original, reply
    read_tuple(c.conns, p.conn, ORIGINAL, &original)
    read_tuple(c.conns, p.conn, REPLY, &reply)
    if asked_and_false(info, ASK_ORIGSRC, same6(original.src, &info.address[0])):
        return False
    if asked_and_false(info, ASK_ORIGDST, same6(original.dst, &info.address[1])):
        return False
    if asked_and_false(info, ASK_REPLSRC, same6(reply.src, &info.address[2])):
        return False
    if asked_and_false(info, ASK_REPLDST, same6(reply.dst, &info.address[3])):
        return False
    if asked_and_false(info, ASK_PROTO, original.proto == info.proto):
        return False
    if asked_and_false(info, ASK_ORIGSRC_PORT, within(&info.ports[0], original.sport)):
        return False
    if asked_and_false(info, ASK_ORIGDST_PORT, within(&info.ports[2], original.dport)):
        return False
    if asked_and_false(info, ASK_REPLSRC_PORT, within(&info.ports[4], reply.sport)):
        return False
    return not asked_and_false(info, ASK_REPLDST_PORT, within(&info.ports[6], reply.dport))


cdef inline bint m_conntrack(Packet* p, const ConntrackInfo* info, Context* c) noexcept nogil:
    cdef uint32_t bit = state_bit(p, c), status = TEMPLATE | CONFIRMED, direction = ORIGINAL
    cdef uint32_t left
    cdef const ConnHot* hot = &c.conns.hot[p.conn]
    if p.conn:
        status = hot.status
        direction = direction_of(p.ctinfo)
    elif not shows_template(p, c):
        return (info.asked & ASK_STATE) and not asked_and_false(info, ASK_STATE, (bit & info.state) != 0)
    if info.asked & ASK_STATE:
        if status & SRC_NAT:
            bit |= STATE_SNAT
        if status & DST_NAT:
            bit |= STATE_DNAT
        if asked_and_false(info, ASK_STATE, (bit & info.state) != 0):
            return False
        if info.asked == ASK_STATE:
            return True
    if asked_and_false(info, ASK_DIRECTION, direction == info.direction):
        return False
    if (info.asked & (ASK_ORIGSRC | ASK_ORIGDST | ASK_REPLSRC | ASK_REPLDST | ASK_PROTO | ASK_ORIGSRC_PORT
                      | ASK_ORIGDST_PORT | ASK_REPLSRC_PORT | ASK_REPLDST_PORT)) and not tuples_match(p, info, c):
        return False
    if asked_and_false(info, ASK_STATUS, (status & info.status) != 0):
        return False
    if info.asked & ASK_EXPIRES:
        left = seconds_left(hot, c)
        if asked_and_false(info, ASK_EXPIRES, info.expires[0] <= left <= info.expires[1]):
            return False
    return True
