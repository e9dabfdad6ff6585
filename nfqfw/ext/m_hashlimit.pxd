"""match hashlimit: a rate for each address, network or port.  Header-only.

A table's entries live by the configuration of the rule that made it; each rule says for itself whether it is `above`, and
whether it asks for packets, bytes or a compared rate.  Arithmetic, jiffies and credits are those of xt_hashlimit revision 3.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy

from nfqfw._atomic cimport lock, unlock
from nfqfw._named cimport NamedEntry, NamedTable, jiffies, named_add, named_find, named_hash, named_remove, named_used
from nfqfw._packet cimport BAD_CHAIN, IPV4, Packet, destination, has, source
from nfqfw._program cimport Context


cdef enum HashlimitMode:
    HASHLIMIT_DSTIP = 1
    HASHLIMIT_SRCIP = 2
    HASHLIMIT_DSTPORT = 4
    HASHLIMIT_SRCPORT = 8
    HASHLIMIT_ABOVE = 16        # of a rule only
    HASHLIMIT_BYTES = 32
    HASHLIMIT_RATE_MATCH = 64


cdef enum:
    HASHLIMIT_CLEAN = 32        # old entries freed per packet: bounds the time under the lock
    CREDITS_PER_JIFFY = 549755813888        # 2^39: the largest power of two below 2^64 / (HZ * a day)
    BYTE_CREDITS_PER_JIFFY = 16777216       # 2^24: the same of 2^32 / HZ
    BYTE_CREDITS = 4194304000               # a full bucket of bytes: 250 jiffies
    PROTO_ESP = 50
    PROTO_AH = 51
    NO_NEXT = 59


cdef struct HashlimitConfig:    # "<6QII4Q": NamedTable.own
    uint64_t credit             # what an entry starts with
    uint64_t cost               # of a packet, or of 16 bytes
    uint64_t cap                # packets: most credits; bytes: how often the bucket is filled up at once
    uint64_t rate               # rate match: per interval
    uint64_t expire             # jiffies after the last use
    uint64_t interval           # jiffies: rate match
    uint32_t mode               # HashlimitMode
    uint32_t clean_every        # jiffies between clean-ups
    uint64_t srcmask[2]         # as in the packet
    uint64_t dstmask[2]


cdef struct HashlimitInfo:      # "<II"
    uint32_t table
    uint32_t mode


cdef struct HashlimitEntry:     # key: source, destination, ports, one word each half
    NamedEntry head
    int64_t expires             # jiffy
    int64_t prev                # jiffy of the last reckoning
    uint64_t credit
    uint64_t cap
    uint64_t current            # rate match: packets or bytes of the interval
    uint32_t over               # rate match: the interval before was over the rate
    uint32_t pad


cdef inline int64_t hashlimit_ports(const Packet* p, uint32_t mode) noexcept nogil:
    """Four bytes as they stand in the packet; 0 for a protocol without ports, -1 when they cannot be read.

    ESP and AH give their SPI.  IPv4 looks behind the header of later fragments too; IPv6 sees a fragment header there.
    """
    cdef uint32_t at = p.thoff
    cdef uint32_t value = 0
    if p.family != IPV4 and p.fragoff:
        return 0
    if p.family != IPV4 and (p.flags & BAD_CHAIN or p.proto == NO_NEXT):
        return -1
    if p.proto == PROTO_AH:
        at += 4
    elif not (p.proto == 6 or p.proto == 17 or p.proto == 33 or p.proto == PROTO_ESP or p.proto == 132 or p.proto == 136):
        return 0
    if not has(p, at, 4):
        return -1
    if mode & HASHLIMIT_SRCPORT:
        memcpy(&value, p.data + at, 2)
    if mode & HASHLIMIT_DSTPORT:
        memcpy(<uint8_t*>&value + 2, p.data + at + 2, 2)
    return value


cdef inline bint hashlimit_key(const Packet* p, const HashlimitConfig* config, uint64_t* key) noexcept nogil:
    """What the packet's rate is kept under.  False: not to be told."""
    cdef uint32_t size = 4 if p.family == IPV4 else 16
    cdef int64_t ports
    key[0] = key[1] = key[2] = key[3] = key[4] = 0
    if config.mode & HASHLIMIT_SRCIP:
        memcpy(key, source(p), size)
        key[0] &= config.srcmask[0]
        key[1] &= config.srcmask[1]
    if config.mode & HASHLIMIT_DSTIP:
        memcpy(key + 2, destination(p), size)
        key[2] &= config.dstmask[0]
        key[3] &= config.dstmask[1]
    if config.mode & (HASHLIMIT_SRCPORT | HASHLIMIT_DSTPORT):
        ports = hashlimit_ports(p, config.mode)
        if ports < 0:
            return False
        key[4] = <uint64_t>ports
    return True


cdef inline void hashlimit_clean(NamedTable* t, const HashlimitConfig* config, int64_t now, uint32_t most) noexcept nogil:
    """Free entries that the last clean-up due would have found expired.  The order of use is that of expiry."""
    cdef HashlimitEntry* e
    if t.clean_at == 0:
        t.clean_at = now + config.clean_every
    elif now >= t.clean_at:
        t.cleaned_at = now - (now - t.clean_at) % config.clean_every
        t.clean_at = t.cleaned_at + config.clean_every
    while most and t.oldest != NULL:
        e = <HashlimitEntry*>t.oldest
        if e.expires > t.cleaned_at:
            return
        named_remove(t, &e.head)
        most -= 1


cdef inline HashlimitEntry* hashlimit_new(NamedTable* t, const HashlimitConfig* config, const uint64_t* key, uint64_t hash,
                                          int64_t now) noexcept nogil:
    """NULL: the table is full."""
    cdef HashlimitEntry* e
    if t.count >= t.shape.most:
        return NULL
    e = <HashlimitEntry*>malloc(sizeof(HashlimitEntry))
    if e == NULL:
        return NULL
    e.prev = now
    e.credit = config.credit
    e.cap = config.cap
    e.current = 0
    e.over = 0
    named_add(t, &e.head, key, hash)
    return e


cdef inline void hashlimit_reckon(HashlimitEntry* e, const HashlimitConfig* config, int64_t now) noexcept nogil:
    """Credits that time has brought; for a compared rate, the end of an interval."""
    cdef int64_t delta = now - e.prev
    cdef uint64_t before = e.credit, cap = e.cap
    if delta <= 0:
        return
    if config.mode & HASHLIMIT_RATE_MATCH:
        if <uint64_t>delta < config.interval:
            return
        e.prev = now
        e.over = e.current * config.interval > <uint64_t>delta * config.rate
        e.current = 0
        return
    e.prev = now
    if config.mode & HASHLIMIT_BYTES:
        e.credit += <uint64_t>BYTE_CREDITS_PER_JIFFY * <uint64_t>delta
        cap = BYTE_CREDITS
        if before >= e.credit:
            e.credit = cap
    else:
        e.credit += <uint64_t>CREDITS_PER_JIFFY * <uint64_t>delta
    if e.credit > cap:
        e.credit = cap


cdef inline uint64_t hashlimit_byte_cost(HashlimitEntry* e, const HashlimitConfig* config, uint32_t length) noexcept nogil:
    """Per 16 bytes begun; a bucket too empty for it is filled up at once as long as the burst lasts."""
    cdef uint64_t cost = (<uint64_t>(length >> 4) + 1) * config.cost
    if cost > BYTE_CREDITS:
        cost = BYTE_CREDITS
    if e.credit < cost and e.cap:
        e.cap -= 1
        e.credit = BYTE_CREDITS
    return cost


cdef inline bint hashlimit_within(HashlimitEntry* e, const HashlimitConfig* config, uint32_t mode, uint32_t length) noexcept nogil:
    """Whether the packet keeps within the rate."""
    cdef uint64_t cost = config.cost
    if mode & HASHLIMIT_RATE_MATCH:
        e.current += length if mode & HASHLIMIT_BYTES else 1
        return not e.over and e.current <= e.cap
    if mode & HASHLIMIT_BYTES:
        cost = hashlimit_byte_cost(e, config, length)
    if e.credit < cost:
        return False
    e.credit -= cost
    return True


cdef inline bint m_hashlimit(Packet* p, const HashlimitInfo* info, Context* c) noexcept nogil:
    """A full table, or ports that cannot be read: the packet is dropped."""
    cdef NamedTable* t = c.named[info.table]
    cdef const HashlimitConfig* config = <const HashlimitConfig*>t.own
    cdef uint64_t key[5]
    cdef uint64_t hash
    cdef int64_t now = jiffies(c.now)
    cdef HashlimitEntry* e
    cdef bint within = False
    if not hashlimit_key(p, config, key):
        c.hotdrop = 1
        return False
    hash = named_hash(t, key)
    lock(&t.lock)
    hashlimit_clean(t, config, now, HASHLIMIT_CLEAN)
    e = <HashlimitEntry*>named_find(t, key, hash)
    if e != NULL and e.expires <= t.cleaned_at:
        named_remove(t, &e.head)
        e = NULL
    if e == NULL:
        e = hashlimit_new(t, config, key, hash, now)
    else:
        hashlimit_reckon(e, config, now)
        named_used(t, &e.head)
    if e != NULL:
        e.expires = now + <int64_t>config.expire
        within = hashlimit_within(e, config, info.mode, p.total)
    unlock(&t.lock)
    if e == NULL:
        c.hotdrop = 1
        return False
    return within ^ ((info.mode & HASHLIMIT_ABOVE) != 0)
