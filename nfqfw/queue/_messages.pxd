"""nfnetlink_queue on the wire: reading packet messages, writing verdicts and configuration.  Header-only.

Netlink headers are in machine order, everything inside nfnetlink attributes in network order; attributes are padded to
4 bytes.  The kernel sends one message per datagram today; nothing here depends on it.  Numbers: linux/netlink.h,
linux/netfilter/nfnetlink_queue.h.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from nfqfw._packet cimport (DIRTY_MARK, DIRTY_PAYLOAD, DIRTY_PRIORITY, KNOWN_GID, KNOWN_HWADDR, KNOWN_UID, TRUNCATED, Packet,
                            be16, be32, put16, put32)


cdef enum:
    NLMSG_ERROR = 2
    NLM_F_REQUEST = 1
    NLM_F_ACK = 4
    NL_HEADER = 16              # struct nlmsghdr
    NFGEN_HEADER = 4            # struct nfgenmsg
    ATTR_HEADER = 4             # struct nlattr
    ATTR_TYPE_MASK = 0x3fff     # without NLA_F_NESTED and NLA_F_NET_BYTEORDER

    SUBSYS_QUEUE = 3 << 8       # NFNL_SUBSYS_QUEUE
    MSG_PACKET = 0
    MSG_VERDICT = 1
    MSG_CONFIG = 2
    MSG_VERDICT_BATCH = 3       # one verdict for every packet in the queue whose id is not after this one

    NFQA_PACKET_HDR = 1
    NFQA_VERDICT_HDR = 2
    NFQA_MARK = 3
    NFQA_IFINDEX_INDEV = 5
    NFQA_IFINDEX_OUTDEV = 6
    NFQA_IFINDEX_PHYSINDEV = 7
    NFQA_IFINDEX_PHYSOUTDEV = 8
    NFQA_HWADDR = 9
    NFQA_PAYLOAD = 10
    NFQA_CAP_LEN = 13
    NFQA_SKB_INFO = 14
    NFQA_UID = 16
    NFQA_GID = 17
    NFQA_PRIORITY = 21

    NFQA_CFG_CMD = 1
    NFQA_CFG_PARAMS = 2
    NFQA_CFG_QUEUE_MAXLEN = 3
    NFQA_CFG_MASK = 4
    NFQA_CFG_FLAGS = 5
    CFG_CMD_BIND = 1
    CFG_CMD_UNBIND = 2
    COPY_PACKET = 2
    CFG_F_FAIL_OPEN = 1
    CFG_F_GSO = 4
    CFG_F_UID_GID = 8

    VERDICT_BYTES = 16 + 4 + 12 + 8 + 8 + 4     # longest verdict before its payload bytes: header, verdict, mark, priority, payload header
    PAYLOAD_MAX = 65531                         # limits.PAYLOAD_BYTES
    NO_PACKET = -1              # read_packet: not a packet message, or one without a packet header


cdef inline uint32_t align4(uint32_t n) noexcept nogil:
    return (n + 3) & ~<uint32_t>3


cdef inline uint32_t native32(const uint8_t* at) noexcept nogil:
    cdef uint32_t v
    memcpy(&v, at, 4)
    return v


cdef inline uint16_t native16(const uint8_t* at) noexcept nogil:
    cdef uint16_t v
    memcpy(&v, at, 2)
    return v


# ---- reading ----------------------------------------------------------------------------------------------------------

cdef inline int read_packet(Packet* p, uint8_t* message, uint32_t length, uint32_t room) noexcept nogil:
    """Fill the transport's half of a Packet from one NFQNL_MSG_PACKET of `length` bytes; NO_PACKET if it has no packet id.

    `room` = bytes after the message that belong to nobody: a packet at the end may grow into them.  A message without
    payload gives len 0.  Attributes that are too short are ignored, and so is the rest after a broken length.
    """
    cdef uint32_t off = NL_HEADER + NFGEN_HEADER
    cdef uint32_t size, body, cut = 0
    cdef uint16_t kind
    cdef uint8_t* at
    cdef bint seen = False
    memset(p, 0, sizeof(Packet))                # verdict 0 = DROP: a packet that nobody judged is dropped
    if length < off:
        return NO_PACKET
    p.family = message[NL_HEADER]
    while off + ATTR_HEADER <= length:
        size = native16(message + off)
        kind = native16(message + off + 2) & ATTR_TYPE_MASK
        if size < ATTR_HEADER or size > length - off:
            break
        body = size - ATTR_HEADER
        at = message + off + ATTR_HEADER
        if kind == NFQA_PAYLOAD:
            p.data = at
            p.len = body
            p.capacity = body + (room if off + align4(size) >= length else 0)
        elif kind == NFQA_PACKET_HDR and body >= 7:
            p.id = be32(at)
            p.hook = at[6]
            seen = True
        elif kind == NFQA_HWADDR and body >= 12:
            p.hwlen = <uint8_t>min(be16(at), <uint16_t>8)
            memcpy(p.hwaddr, at + 4, 8)
            p.known |= KNOWN_HWADDR
        elif body >= 4:
            if kind == NFQA_MARK:
                p.mark = be32(at)
            elif kind == NFQA_IFINDEX_INDEV:
                p.ifin = be32(at)
            elif kind == NFQA_IFINDEX_OUTDEV:
                p.ifout = be32(at)
            elif kind == NFQA_SKB_INFO:
                p.skbinfo = be32(at)
            elif kind == NFQA_CAP_LEN:
                cut = be32(at)
            elif kind == NFQA_PRIORITY:
                p.priority = be32(at)
            elif kind == NFQA_UID:
                p.uid = be32(at)
                p.known |= KNOWN_UID
            elif kind == NFQA_GID:
                p.gid = be32(at)
                p.known |= KNOWN_GID
            elif kind == NFQA_IFINDEX_PHYSINDEV:
                p.physin = be32(at)
            elif kind == NFQA_IFINDEX_PHYSOUTDEV:
                p.physout = be32(at)
        off += align4(size)
    p.total = cut if cut > p.len else p.len
    if p.total > p.len:
        p.flags = TRUNCATED
        p.capacity = p.len
    return 0 if seen else NO_PACKET


# ---- writing ----------------------------------------------------------------------------------------------------------

cdef inline uint32_t put_header(uint8_t* out, uint16_t kind, uint16_t flags, uint16_t queue, uint32_t seq) noexcept nogil:
    """nlmsghdr and nfgenmsg of a queue message; the length is set by `finish`.  Returns the bytes written, 20."""
    memset(out, 0, NL_HEADER + NFGEN_HEADER)
    kind |= SUBSYS_QUEUE
    flags |= NLM_F_REQUEST
    memcpy(out + 4, &kind, 2)
    memcpy(out + 6, &flags, 2)
    memcpy(out + 8, &seq, 4)
    put16(out + NL_HEADER + 2, queue)           # res_id; family and version stay 0
    return NL_HEADER + NFGEN_HEADER


cdef inline void finish(uint8_t* message, uint32_t length) noexcept nogil:
    memcpy(message, &length, 4)


cdef inline uint32_t put_attr_header(uint8_t* out, uint16_t kind, uint32_t body) noexcept nogil:
    cdef uint16_t size = <uint16_t>(body + ATTR_HEADER)
    memcpy(out, &size, 2)
    memcpy(out + 2, &kind, 2)
    return ATTR_HEADER


cdef inline uint32_t put_attr32(uint8_t* out, uint16_t kind, uint32_t value) noexcept nogil:
    put_attr_header(out, kind, 4)
    put32(out + ATTR_HEADER, value)
    return 8


cdef inline uint32_t put_verdict(uint8_t* out, uint16_t queue, uint32_t id, uint32_t verdict, uint8_t dirty, uint32_t mark,
                                 uint32_t priority, uint32_t payload, uint16_t kind=MSG_VERDICT) noexcept nogil:
    """One NFQNL_MSG_VERDICT at `out` (VERDICT_BYTES of room), without acknowledgement; returns the bytes written.

    With DIRTY_PAYLOAD the caller sends `payload` bytes (at most PAYLOAD_MAX) right behind, padded to 4; without it
    `payload` is not looked at.
    """
    cdef uint32_t n = put_header(out, kind, 0, queue, 0)
    n += put_attr_header(out + n, NFQA_VERDICT_HDR, 8)
    put32(out + n, verdict)
    put32(out + n + 4, id)
    n += 8
    if dirty & DIRTY_MARK:
        n += put_attr32(out + n, NFQA_MARK, mark)
    if dirty & DIRTY_PRIORITY:
        n += put_attr32(out + n, NFQA_PRIORITY, priority)
    if dirty & DIRTY_PAYLOAD:
        n += put_attr_header(out + n, NFQA_PAYLOAD, payload)
        finish(out, n + align4(payload))
    else:
        finish(out, n)
    return n


cdef inline uint32_t put_bind(uint8_t* out, uint16_t queue, uint8_t command, uint32_t maxlen, uint32_t flags,
                              uint32_t seq) noexcept nogil:
    """Bind or unbind with acknowledgement; a bind also sets the queue's length and flags (60 bytes of room)."""
    cdef uint32_t n = put_header(out, MSG_CONFIG, NLM_F_ACK, queue, seq)
    n += put_attr_header(out + n, NFQA_CFG_CMD, 4)
    out[n] = command
    out[n + 1] = 0
    out[n + 2] = 0                              # protocol family: ignored since Linux 3.8
    out[n + 3] = 0
    n += 4
    if command == CFG_CMD_BIND:
        n += put_attr32(out + n, NFQA_CFG_QUEUE_MAXLEN, maxlen)
        n += put_attr32(out + n, NFQA_CFG_MASK, CFG_F_GSO | CFG_F_UID_GID | CFG_F_FAIL_OPEN)
        n += put_attr32(out + n, NFQA_CFG_FLAGS, flags)
    finish(out, n)
    return n


cdef inline uint32_t put_params(uint8_t* out, uint16_t queue, uint32_t copy_range) noexcept nogil:
    """Copy mode "packet" with this range: from now on packets flow (32 bytes of room)."""
    cdef uint32_t n = put_header(out, MSG_CONFIG, 0, queue, 0)
    n += put_attr_header(out + n, NFQA_CFG_PARAMS, 5)
    put32(out + n, copy_range)
    out[n + 4] = COPY_PACKET
    memset(out + n + 5, 0, 3)
    n += 8
    finish(out, n)
    return n
