"""Outbox: what an engine hands back besides the verdicts of its batch; and the door through which a transport calls it.  Header-only.

Overview.  One Outbox per queue thread, in process memory, written by the engine and emptied by the transport after every
call of `batch` or `idle`: the transport sets the counts to 0.  Three kinds of things are in it:

- `released`: verdicts for packets that were HELD earlier (fragments).  `data` stays the engine's and must stay valid until
  its next call.  `at` keeps the order of must 10: an entry with `at` = i goes out just before the verdict of packet i of
  the batch; `at` >= n, and everything from `idle`, after the last.
- `packets`: packets of our own (REJECT replies), sent by a raw socket after all verdicts, in order.  A full socket buffer
  drops them, counted by the transport; a full outbox drops them, counted in `full`.
- `redirected`: connections that NAT brought to this host, told to the kernel before the verdicts (SO_ORIGINAL_DST).
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from nfqfw._packet cimport Packet


cdef enum:
    RELEASED_MAX = 8192         # entries; 1/8 of limits.QUEUE_LENGTH may be held
    OUTBOX_PACKETS = 256        # limits.OUTBOX_PACKETS
    REDIRECTED_MAX = 256        # as many as a batch can have new connections, and more
    OUTBOX_BYTES = 1280         # longest reply: an ICMPv6 error fills the minimum MTU (RFC 4443 2.4 c); ICMP ends at 576


cdef struct Released:           # 40 bytes
    uint8_t* data               # layer-3 header; read only with DIRTY_PAYLOAD
    uint32_t len                # bytes at data
    uint32_t id                 # packet id of the queue, host order
    uint32_t mark               # read only with DIRTY_MARK
    uint32_t priority           # read only with DIRTY_PRIORITY
    uint32_t at                 # index of the batch's packet before whose verdict this one goes out
    uint16_t queue              # Packet.queue of the held packet
    uint8_t verdict             # Verdict, never HELD
    uint8_t dirty               # Dirty
    uint8_t truncated           # 1 = the copy was cut (Packet.flags TRUNCATED): no payload may be returned
    uint8_t reason              # Reason, when we dropped it
    uint8_t pad[6]


cdef struct OutPacket:
    uint32_t len                # bytes in data, > 0
    uint32_t mark               # SO_MARK of the reply
    uint32_t ifindex            # interface it must leave by, 0 = the route decides
    uint8_t family              # Family
    uint8_t pad[3]
    uint8_t data[1280]          # whole packet from the layer-3 header, all checksums valid


cdef struct Redirected:         # a connection that NAT brought to this host, 96 bytes; a transport tells the kernel before its verdicts
    uint8_t kind                # RECORD_REDIRECTED: the same bytes go into the ring
    uint8_t family              # Family
    uint8_t proto
    uint8_t pad
    uint32_t conn               # number and life of the flow table's entry
    uint32_t life
    uint32_t pad2
    uint8_t src[2][16]          # [ORIGINAL], [REPLY], wire order
    uint8_t dst[2][16]
    uint16_t sport[2]           # host order
    uint16_t dport[2]
    uint8_t pad3[8]


cdef struct Outbox:
    uint32_t n_released
    uint32_t n_packets
    uint32_t n_redirected
    uint32_t pad
    Redirected redirected[256]
    uint64_t full               # replies that found the outbox full (reject_send_full)
    Released released[8192]
    OutPacket packets[256]


cdef inline OutPacket* new_reply(Outbox* box) noexcept nogil:
    """A reply to fill, already counted in; NULL when the outbox is full."""
    cdef OutPacket* reply
    if box.n_packets >= OUTBOX_PACKETS:
        box.full += 1
        return NULL
    reply = &box.packets[box.n_packets]
    box.n_packets += 1
    reply.len = 0
    reply.mark = 0
    reply.ifindex = 0
    return reply


cdef inline Redirected* new_redirected(Outbox* box) noexcept nogil:
    """A redirected connection to fill, already counted in; NULL when the outbox is full."""
    if box.n_redirected >= REDIRECTED_MAX:
        return NULL
    box.n_redirected += 1
    return &box.redirected[box.n_redirected - 1]


cdef inline Released* new_release(Outbox* box) noexcept nogil:
    """A held packet's verdict to fill, already counted in; NULL when there is no room until the transport has emptied it."""
    cdef Released* entry
    if box.n_released >= RELEASED_MAX:
        return NULL
    entry = &box.released[box.n_released]
    box.n_released += 1
    entry.data = NULL
    entry.len = 0
    entry.mark = 0
    entry.priority = 0
    entry.at = 0xffffffff
    entry.verdict = 0           # DROP: what is forgotten fails closed
    entry.dirty = 0
    entry.truncated = 0
    entry.reason = 0
    return entry


# ---- the door: how a transport calls an engine ------------------------------------------------------------------------

# Judge packets[0..n): sets verdict, reason, dirty, mark, priority, data, len of each.  now_ns: CLOCK_MONOTONIC, wall_ns:
# CLOCK_REALTIME of the same moment.  Reads the engine's current Program pointer once: a call is a batch boundary.
ctypedef void (*BatchFunction)(void* engine, Packet* packets, uint32_t n, uint64_t now_ns, int64_t wall_ns) noexcept nogil

# The sockets have just been read empty after the last verdict was sent: in-flight records not seen by now were refused by
# the kernel.  Called also about once a second without traffic (expiry).
ctypedef void (*IdleFunction)(void* engine, uint64_t now_ns) noexcept nogil


# Within a call of `batch`: send the verdicts of packets[0..n) and of the first n_released entries of the outbox now, as after
# the call.  An engine asks for it before it waits for another thread, so that no two wait for each other.
ctypedef void (*SendFunction)(void* transport, uint32_t n, uint32_t n_released) noexcept nogil


cdef struct Sender:             # the way back, filled in by a transport that can send in the middle of a batch
    SendFunction send           # NULL: it cannot
    void* transport             # first argument


cdef struct EngineDoor:         # what Engine.door() gives, in a PyCapsule named "nfqfw.EngineDoor"; lives as long as the engine object
    BatchFunction batch
    IdleFunction idle           # may be NULL
    void* engine                # first argument of both
    Outbox* outbox              # may be NULL: an engine that never holds and never replies
    Sender* sender              # may be NULL: an engine that never waits
