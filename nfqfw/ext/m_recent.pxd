"""match recent: addresses and the jiffies at which they were seen.  Header-only.

All rules that name a list share it, of both families; its mask is that of the rule that made it.  It holds the 100 addresses
used last; an address keeps its last stamps in a ring.  Times are jiffies of 4 ms, as in the kernel.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy

from nfqfw._atomic cimport lock, unlock
from nfqfw._named cimport (NAMED_JIFFIES_PER_SECOND, NamedEntry, NamedTable, jiffies, named_add, named_find, named_hash, named_remove,
                           named_used)
from nfqfw._packet cimport FORWARD, IPV4, POSTROUTING, Packet, destination, source
from nfqfw._program cimport Context


cdef enum RecentCommand:
    RECENT_SET = 0
    RECENT_RCHECK = 1
    RECENT_UPDATE = 2
    RECENT_REMOVE = 3


cdef enum RecentFlag:
    RECENT_INVERT = 1
    RECENT_REAP = 2
    RECENT_TTL = 4
    RECENT_DESTINATION = 8


cdef struct RecentInfo:         # "<IIIBB2x"
    uint32_t table
    uint32_t seconds            # 0 = of any age
    uint32_t hits               # 0 = one
    uint8_t command             # RecentCommand
    uint8_t flags               # RecentFlag
    uint8_t pad[2]


cdef struct RecentEntry:        # key: two words of masked address, family; NamedTable.own: the mask, 16 bytes
    NamedEntry head
    uint32_t last               # stamps written since the ring was at its start: 1 .. ring
    uint32_t n                  # stamps there are
    uint8_t ttl                 # hop count at the last --set or --update; 0 = fits any
    uint8_t pad[7]
    int64_t stamps[1]           # as many as the table's ring had when the entry was made: a longer ring flushes the table


cdef inline uint8_t hops_before_forwarding(const Packet* p, const Context* c) noexcept nogil:
    """The hop count as it came in: one more where it has been taken off.  255 becomes 0, in the kernel too."""
    return <uint8_t>(p.ttl + 1) if (c.hook == FORWARD or c.hook == POSTROUTING) and not p.local else p.ttl


cdef inline RecentEntry* recent_new(NamedTable* t, const uint64_t* key, uint64_t hash, uint8_t ttl, int64_t now) noexcept nogil:
    """A new address, in the place of the one unused longest if the list is full.  NULL: no memory."""
    cdef RecentEntry* e
    if t.count >= t.shape.most:
        named_remove(t, t.oldest)
    e = <RecentEntry*>malloc(sizeof(RecentEntry) + t.shape.ring * sizeof(int64_t))
    if e == NULL:
        return NULL
    e.ttl = ttl
    e.stamps[0] = now
    e.n = e.last = 1
    named_add(t, &e.head, key, hash)
    return e


cdef inline void recent_stamp(NamedTable* t, RecentEntry* e, uint8_t ttl, int64_t now) noexcept nogil:
    e.last &= t.shape.ring - 1
    e.stamps[e.last] = now
    e.last += 1
    if e.last > e.n:
        e.n = e.last
    e.ttl = ttl
    named_used(t, &e.head)


cdef inline bint recent_seen(const RecentInfo* info, const RecentEntry* e, int64_t since) noexcept nogil:
    """Enough stamps that are young enough; no sooner counted than asked."""
    cdef uint32_t i, hits = 0
    for i in range(e.n):
        if info.seconds and since > e.stamps[i]:
            continue
        hits += 1
        if hits >= info.hits:
            return True
    return False


cdef inline bint recent_known(NamedTable* t, const RecentInfo* info, RecentEntry* e, uint8_t ttl, int64_t now) noexcept nogil:
    """The answer for an address that is on the list, inversion included."""
    cdef bint answer = (info.flags & RECENT_INVERT) == 0
    cdef int64_t since = now - <int64_t>(<uint32_t>(info.seconds * <uint32_t>NAMED_JIFFIES_PER_SECOND))   # 32 bits, as the kernel has it
    cdef RecentEntry* oldest
    if info.command == RECENT_SET:
        recent_stamp(t, e, ttl, now)
        return answer
    if info.command == RECENT_REMOVE:
        named_remove(t, &e.head)
        return answer
    if not recent_seen(info, e, since):
        answer = not answer
    if info.flags & RECENT_REAP:
        oldest = <RecentEntry*>t.oldest
        if not (oldest == e and info.command == RECENT_UPDATE and answer) and since > oldest.stamps[oldest.last - 1]:
            named_remove(t, &oldest.head)
    if info.command == RECENT_UPDATE and answer:        # the answer turned round, too: `! --update` notes those it did not see
        recent_stamp(t, e, ttl, now)
    return answer


cdef inline bint m_recent(Packet* p, const RecentInfo* info, Context* c) noexcept nogil:
    """An address that is not on the list: --set puts it there; all else is false, inverted true."""
    cdef NamedTable* t = c.named[info.table]
    cdef uint64_t key[5]
    cdef uint64_t hash
    cdef uint8_t ttl = hops_before_forwarding(p, c)
    cdef int64_t now = jiffies(c.now)
    cdef RecentEntry* e
    cdef bint answer = (info.flags & RECENT_INVERT) != 0
    key[0] = key[1] = key[3] = key[4] = 0
    memcpy(key, destination(p) if info.flags & RECENT_DESTINATION else source(p), 4 if p.family == IPV4 else 16)
    key[0] &= t.own[0]
    key[1] &= t.own[1]
    key[2] = p.family
    hash = named_hash(t, key)
    lock(&t.lock)
    e = <RecentEntry*>named_find(t, key, hash)
    if e != NULL and info.flags & RECENT_TTL and ttl and e.ttl and e.ttl != ttl:
        e = NULL
    if e != NULL:
        answer = recent_known(t, info, e, ttl, now)
    elif info.command == RECENT_SET:
        answer = not answer
        if recent_new(t, key, hash, ttl, now) == NULL:
            c.hotdrop = 1
    unlock(&t.lock)
    return answer and not c.hotdrop
