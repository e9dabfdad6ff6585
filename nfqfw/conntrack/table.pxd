"""Conntrack: the flow table as one process sees it; its settings, counters, indexes and locks.  Header-only.

Life-cycle, locking and what may be done with it: `nfqfw/_conntrack.pyx`.
"""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t

from nfqfw._arena cimport ArenaHeader
from nfqfw._conn cimport ConnAcct, ConnAddr6, ConnHot, ConnLabels, ConnTable, Expect, Tuple
from nfqfw._ring cimport Ring


cdef enum:
    BUCKET_SLOTS = 10
    LOCKS = 1024                # stripes, power of two
    CHAIN_BUCKETS = 8           # a hash chain is at most 80 entries long (the kernel: 50..80, random)
    REUSE_DISTANCE = 65536      # freed entries wait at least this many allocations while fresh ones are left


cdef enum:                      # Tunable: Conntrack.tunable[]; names, defaults and ranges in conntrack/tunables.py, same order
    T_ACCT = 0
    T_CHECKSUM
    T_EVENTS
    T_EXPECT_MAX
    T_TIMESTAMP
    T_LOG_INVALID
    T_MAX
    T_TCP_BE_LIBERAL
    T_TCP_LOOSE
    T_TCP_IGNORE_INVALID_RST
    T_TCP_MAX_RETRANS
    T_TCP_SYN_SENT
    T_TCP_SYN_RECV
    T_TCP_ESTABLISHED
    T_TCP_FIN_WAIT
    T_TCP_CLOSE_WAIT
    T_TCP_LAST_ACK
    T_TCP_TIME_WAIT
    T_TCP_CLOSE
    T_TCP_SYN_SENT2
    T_TCP_RETRANS
    T_TCP_UNACK
    T_UDP
    T_UDP_STREAM
    T_ICMP
    T_ICMPV6
    T_GENERIC
    T_GRE
    T_GRE_STREAM
    T_SCTP_CLOSED
    T_SCTP_COOKIE_WAIT
    T_SCTP_COOKIE_ECHOED
    T_SCTP_ESTABLISHED
    T_SCTP_SHUTDOWN_SENT
    T_SCTP_SHUTDOWN_RECD
    T_SCTP_SHUTDOWN_ACK_SENT
    T_SCTP_HEARTBEAT_SENT
    T_FRAG6_TIMEOUT
    T_FRAG6_HIGH
    T_FRAG6_LOW
    T_COUNT


cdef enum:                      # Stat: Conntrack.stat[]; names in conntrack/stats.py, same order
    S_FOUND = 0
    S_INVALID
    S_INSERT
    S_INSERT_FAILED
    S_DROP
    S_EARLY_DROP
    S_ERROR
    S_SEARCH_RESTART
    S_CLASH_RESOLVE
    S_CHAINTOOLONG
    S_ICMP_ERROR
    S_CSUM_UNCHECKED            # ours: the kernel gave only a part of the packet, taken as good
    S_CREATED                   # ours: entries made, confirmed or not
    S_DELETED                   # ours: entries that ended
    S_EXPECT_NEW                # connections that were expected
    S_EXPECT_CREATE
    S_EXPECT_DELETE
    S_COUNT


cdef enum EventKind:            # IPCT_NEW, .. as conntrack -E words
    EVENT_NEW = 1
    EVENT_UPDATE = 2
    EVENT_DESTROY = 3
    EVENT_EXPECT_NEW = 4        # an ExpectRecord, as is the next
    EVENT_EXPECT_DESTROY = 5


cdef enum Track:                # what a tracker says of a packet
    TRACK_ACCEPT = 0
    TRACK_INVALID = 1           # the packet has no connection
    TRACK_REPEAT = 2            # delete the entry and start again
    TRACK_KILL = 3              # accept, and delete the entry


cdef struct Bucket:             # 64 bytes, one cache line
    uint16_t tag[10]            # high bits of the hash; 0 = free
    uint32_t conn[10]
    uint32_t next               # overflow bucket, 0 = none


cdef struct Index:              # derived from the arrays; process memory
    Bucket* buckets             # n_buckets, then the overflow buckets
    uint32_t n_buckets          # power of two
    uint32_t n_overflow
    uint32_t overflow_used
    uint32_t lock
    Index* older                # the one this replaced, NULL = none


cdef struct ConnRecord:         # what a listing line or an event needs; conntrack/entry.py unpacks it
    uint32_t size
    uint16_t kind               # EventKind, 0 = listed
    uint16_t pad
    uint64_t wall_ns            # event: wall clock
    uint32_t timeout            # seconds left
    uint32_t portid             # DESTROY, UPDATE by a user: its process id, else 0
    uint64_t start_wall_ns      # 0 = no timestamp
    uint64_t stop_wall_ns
    uint32_t number             # index of the entry
    uint32_t master
    uint32_t use                # references: 1 + children
    uint16_t helper
    uint16_t told               # EventBit of this event
    uint32_t words[2]           # SCTP: verification tags; GRE: time-outs, seconds
    uint32_t secmark            # label of ext/labels.py, 0 = none
    uint32_t pad3
    ConnHot hot
    ConnAddr6 addr6
    ConnAcct acct
    ConnLabels labels


cdef struct ExpectRecord:       # what a line about an expectation needs; conntrack/expectation.py unpacks it
    uint32_t size
    uint16_t kind               # EventKind, 0 = listed
    uint16_t helper             # the master's
    uint64_t wall_ns
    uint32_t timeout            # seconds left
    uint32_t number
    Expect expect
    Tuple master                # its original tuple


cdef struct ExpectIndex:        # lists of expectations, derived from the entries; process memory
    uint32_t lock
    uint32_t count
    uint32_t cursor             # of the collector
    uint16_t free               # freed numbers, linked by `next`
    uint16_t bucket[1024]       # by destination: newest first, linked by `next`
    uint16_t masters[1024]      # by master: newest first, linked by `sibling`
    uint16_t next[16384]        # limits.EXPECT_SLOTS
    uint16_t sibling[16384]


cdef struct Conntrack:
    ConnTable table
    ArenaHeader* header
    Index* index
    ExpectIndex* expect
    uint16_t helper_policy[32][4][2]    # [helper][class]: most expectations, their seconds (ext/helpers.py)
    uint64_t key[2]
    uint32_t count              # entries in use, unconfirmed ones included: nf_conntrack_count
    uint32_t free_head          # freed entries, oldest first, linked through ConnCold.next_free
    uint32_t free_tail
    uint32_t free_count
    uint32_t alloc_lock
    uint32_t gc_cursor
    uint32_t gc_lock
    uint32_t early_drop         # a packet found the table full: the collector takes more than what has expired
    uint32_t events_on          # somebody listens
    uint32_t event_lock
    uint64_t now_ns             # newest time that any caller told us
    int64_t wall_offset         # wall clock less monotonic clock
    Ring events
    uint32_t nat_lock           # one thread at a time chooses a mapping, and makes it known
    void* nat                   # NatIndex of _nat.pyx: one block of memory, made on first use, freed with the table
    uint64_t path_numbers       # given to queue threads so far
    uint64_t stat[20]
    uint32_t tunable[48]
    uint8_t tcp_next[120]       # [direction][kind][state], from conntrack/tcp.py
    uint8_t tcp_valid[256]      # flag byte without PSH, ECE, CWR -> 1 = a segment may carry it
    uint8_t sctp_next[200]      # [direction][chunk row][state], from conntrack/sctp.py
    uint8_t sctp_row[256]       # chunk type -> row, 255 = none
    uint32_t crc32c[256]
    uint32_t bucket_locks[1024]
    uint32_t conn_locks[1024]
    uint16_t policy_row[65536]  # number of a policy's name (ext/timeouts.py) -> row of table.policies, 0 = there is none
