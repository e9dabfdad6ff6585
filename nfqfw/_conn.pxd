"""Conn and Tuple: a tracked connection, as parallel arrays in the Arena.  Header-only.

Overview.  Connection number i is element i of several arrays: `hot` (identity, state, time-out: the one line that every
packet touches), `window` (TCP windows, or what another tracker keeps), and others that stay untouched, and so cost no
memory, until a flow needs them (IPv6 addresses, accounting, labels).  Number 0 means "none".  Offsets and indexes only:
another process may map the same arrays elsewhere.

Identity (tuples, status, mark, NAT) is published under `commit`: odd while it is written, even when whole.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int32_t
from libc.string cimport memcmp, memcpy, memset

from nfqfw._atomic cimport load32, or8


cdef enum Status:               # IPS_* of the kernel
    EXPECTED = 1                # made by an expectation: RELATED until a reply is seen
    SEEN_REPLY = 2
    ASSURED = 4
    CONFIRMED = 8
    SRC_NAT = 16
    DST_NAT = 32
    SEQ_ADJUST = 64
    SRC_NAT_DONE = 128
    DST_NAT_DONE = 256
    DYING = 512
    FIXED_TIMEOUT = 1024
    TEMPLATE = 2048
    UNTRACKED_STATUS = 4096
    HELPER = 8192
    OFFLOAD = 16384


cdef enum:                      # Direction
    ORIGINAL = 0
    REPLY = 1


cdef enum ConnFlag:             # ConnHot.flags
    CONN_ACCT = 1               # the entry counts packets and bytes: nf_conntrack_acct was on when it was made
    CONN_EVENT = 2              # something changed that an UPDATE event must tell (state, assured, reply seen, mark, ...)
    CONN_HIDDEN = 4             # lost a clash, known by its reply only: not listed, gone in a second
    CONN_TWO = 8                # reply tuple is not the inverse of the original one: two index entries
    CONN_LABELS = 32            # labels[] holds this entry's labels; without it they are all zero
    CONN_RELATED = 16           # NEW event is a RELATED one (it has a master)
    CONN_STAMPED = 64           # nf_conntrack_timestamp was on when it was confirmed: listings show delta-time
    CONN_TIMEOUTS = 128         # ConnCold.timeout_policy says how long it lives


cdef enum:
    TICKS = 100                 # ConnHot.expires counts hundredths of a second, modulo 2^32


cdef struct Tuple:              # what a packet looks like on the wire in one direction; the key of a lookup
    uint8_t src[16]             # wire order, IPv4 in the first 4 bytes, the rest zero
    uint8_t dst[16]
    uint16_t sport              # host order; ICMP: id.  GRE: key of the source
    uint16_t dport              # host order; ICMP: type << 8 | code
    uint8_t proto
    uint8_t family              # 2 or 10
    uint16_t zone               # zone of this direction


cdef struct ConnHot:            # 64 bytes, one cache line
    uint32_t commit             # 0 = free; odd = identity half written; even = whole
    uint32_t expires            # in TICKS; compare by signed difference.  An unconfirmed entry holds its time-out instead
    uint32_t status             # Status
    uint32_t mark               # connmark
    uint8_t family
    uint8_t proto
    uint8_t state               # TCP, SCTP: state of the tracker; GRE: version
    uint8_t flags               # ConnFlag
    uint16_t zone[2]            # zone of the original and of the reply direction
    uint32_t src4[2]            # [ORIGINAL], [REPLY] source, raw wire bytes; IPv6: keyed hash words of the tuple (see addr6)
    uint32_t dst4[2]
    uint16_t sport[2]           # host order
    uint16_t dport[2]
    uint32_t id                 # id of this life of the entry: `-o id`; never 0
    uint32_t hold               # packets in flight that refer to an unconfirmed entry
    uint32_t cache[2]           # flow cache, one word per direction; 0 = none


cdef struct TcpSide:            # one direction of struct ip_ct_tcp of the kernel; 20 bytes
    uint32_t end                # td_end: highest sequence number + length sent
    uint32_t maxend             # td_maxend: highest sequence number the peer permits
    uint32_t maxwin             # td_maxwin: largest window seen, scaled
    uint32_t maxack             # td_maxack
    uint8_t scale               # window scale
    uint8_t flags               # IP_CT_TCP_FLAG_*
    uint16_t pad


cdef struct ConnWindow:         # 64 bytes; TCP.  Other trackers keep their few words in the same line (see _conntrack)
    TcpSide side[2]
    uint32_t last_seq
    uint32_t last_ack
    uint32_t last_end
    uint16_t last_win
    uint8_t last_dir
    uint8_t last_index          # kind of the last packet
    uint8_t retrans
    uint8_t last_wscale
    uint8_t last_flags
    uint8_t pad0
    uint32_t guard              # odd while the line is half written: after a kill such a flow becomes liberal


cdef enum EventBit:             # IPCT_* of the kernel: what an event tells (ConnCold.pending), what is wanted (ConnCold.ctevents)
    TELL_NEW = 1
    TELL_RELATED = 2
    TELL_DESTROY = 4
    TELL_REPLY = 8
    TELL_ASSURED = 16
    TELL_PROTOINFO = 32
    TELL_HELPER = 64
    TELL_MARK = 128
    TELL_NATSEQINFO = 256
    TELL_SECMARK = 512
    TELL_LABEL = 1024
    TELL_EXPECT_NEW = 4096      # of expectations whose master this is
    TELL_EXPECT_DESTROY = 8192
    TELL_CHOSEN = 32768         # ctevents: a CT rule chose; without it everything is wanted


cdef struct ConnCold:           # 48 bytes; things that few packets touch
    uint64_t start_ns           # CLOCK_MONOTONIC of confirm (before it: of creation): `-o timestamp`, delta-time
    uint32_t master             # connection whose expectation made this one, 0 = none
    uint32_t master_id          # ... and its id: the number may belong to another connection by now
    uint32_t masq_ifindex       # MASQUERADE: interface whose address it uses, 0 = none
    uint32_t secmark
    uint16_t helper             # its helper (number of ext/helpers.py), 0 = none
    uint16_t master_helper      # the helper of its master, 0 = none: what -m helper asks for
    uint16_t ctevents           # EventBit that are wanted
    uint16_t pending            # EventBit that the next event will tell
    uint32_t use                # children (expected connections)
    uint32_t stream_ts          # UDP: ticks after which a replied flow is a stream (creation + 2 s)
    uint16_t timeout_policy     # row of ConnTable.policies, valid with CONN_TIMEOUTS
    uint16_t pad
    uint32_t next_free          # of a free entry: the one that was freed after it (process that owns the table)


cdef struct ConnAddr6:          # 64 bytes, IPv6 only
    uint8_t src[2][16]          # [ORIGINAL], [REPLY]
    uint8_t dst[2][16]


cdef struct ConnAcct:           # 32 bytes; written only while nf_conntrack_acct is on
    uint64_t packets[2]
    uint64_t bytes[2]


cdef struct ConnLabels:         # 16 bytes
    uint64_t bits[2]


cdef enum ExpectFlag:           # NF_CT_EXPECT_* of the kernel
    EXPECT_PERMANENT = 1        # stays when it is fulfilled
    EXPECT_INACTIVE = 2         # nothing fulfils it yet
    EXPECT_USERSPACE = 4


cdef struct Expect:             # 128 bytes: an expectation, number n of an array of its own; 0 = none
    uint32_t commit             # 0 = free; odd = half written; even = whole
    uint32_t expires            # in TICKS
    uint32_t master             # the connection that expects ...
    uint32_t master_id          # ... and its id
    uint32_t id
    uint8_t family
    uint8_t proto
    uint8_t flags               # ExpectFlag
    uint8_t klass               # class: row of the helper's policy
    uint8_t src[16]             # source, wire order, IPv4 in the first 4 bytes
    uint8_t dst[16]
    uint8_t src_mask[16]        # which bits of the source must be equal; the destination must be equal whole
    uint16_t sport              # host order
    uint16_t dport
    uint16_t sport_mask
    uint16_t zone               # the master's
    uint16_t helper             # that the expected connection gets, 0 = none
    uint16_t nat_port           # NAT of the master: port and address that a helper saved, and whose packets go there
    uint8_t nat_address[16]
    uint8_t direction
    uint8_t pad[27]


cdef struct TimeoutPolicy:      # 128 bytes: `nfct add timeout`, row n of an array of its own; 0 = none
    uint32_t serial             # order in which they were added; 0 = free
    uint16_t family             # 2 or 10: of the rules that may name it
    uint8_t proto               # tracker's protocol number, 255 = generic
    uint8_t length              # of seconds[]; 0 = half written, or being deleted
    uint32_t first              # Tunable that seconds[0] stands for
    uint32_t seconds[16]
    char name[32]               # NUL-terminated
    uint8_t pad[20]


cdef struct ConnTable:          # one process's view of the Arena's flow arrays; lives in process memory, pointers are fine
    ConnHot* hot
    ConnWindow* window
    ConnCold* cold
    ConnAddr6* addr6
    ConnAcct* acct
    ConnLabels* labels
    Expect* expect              # 1 .. expect_slots-1 may be used
    uint32_t expect_slots
    TimeoutPolicy* policies     # 1 .. policy_slots-1 may be used
    uint32_t policy_slots
    uint32_t capacity           # entries 1 .. capacity-1 may be used
    uint32_t acct_on            # nf_conntrack_acct


cdef inline uint32_t direction_of(uint8_t ctinfo) noexcept nogil:
    """Direction of a packet of this class; defined for the five classes that have a connection."""
    return REPLY if ctinfo >= 3 else ORIGINAL


cdef inline uint32_t ticks(uint64_t now_ns) noexcept nogil:
    return <uint32_t>(now_ns // 10000000)


cdef inline bint is_expired(const ConnHot* c, uint32_t now_ticks) noexcept nogil:
    """True when a confirmed entry's time is over: to every lookup it is absent from this moment on."""
    return (load32(&c.status) & CONFIRMED) != 0 and <int32_t>(c.expires - now_ticks) <= 0


cdef inline void read_tuple(const ConnTable* t, uint32_t i, uint32_t direction, Tuple* out) noexcept nogil:
    """Tuple of connection i in one direction."""
    cdef const ConnHot* c = &t.hot[i]
    memset(out, 0, sizeof(Tuple))
    out.family = c.family
    out.proto = c.proto
    out.sport = c.sport[direction]
    out.dport = c.dport[direction]
    out.zone = c.zone[direction]
    if c.family == 2:
        memcpy(out.src, &c.src4[direction], 4)
        memcpy(out.dst, &c.dst4[direction], 4)
    else:
        memcpy(out.src, t.addr6[i].src[direction], 16)
        memcpy(out.dst, t.addr6[i].dst[direction], 16)


cdef inline ConnLabels* labels_of(ConnTable* t, uint32_t i) noexcept nogil:
    """Labels of connection i, ready to be changed: the first use clears what an earlier life left there."""
    if not t.hot[i].flags & CONN_LABELS:
        t.labels[i].bits[0] = t.labels[i].bits[1] = 0
        or8(&t.hot[i].flags, CONN_LABELS)
    return &t.labels[i]


cdef inline bint has_label(const ConnTable* t, uint32_t i, uint32_t bit) noexcept nogil:
    """True if label `bit` (0..127) is set on connection i."""
    return (t.hot[i].flags & CONN_LABELS) != 0 and ((t.labels[i].bits[bit >> 6] >> (bit & 63)) & 1) != 0
