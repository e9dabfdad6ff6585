"""match connlimit: how many living connections an address or network has.  Header-only.

Each rule has a table of its own: a list per address, which counts, and a member per connection and list.  A packet whose
connection is not on the list of its address joins it, and makes it if there is none; but one of an ASSURED connection joins no list
that others made (Linux 6.18).  A connection leaves when its flow is gone, or is TCP in TIME_WAIT or CLOSE and not that of a packet
that would join.  A packet for whose address nothing is left to count is dropped, as one is for which there is no room: to the kernel
both are a count of 0.

Members are looked over once per jiffy of 4 ms and list at the most, as in the kernel; here only when it matters: when the count
would be above the limit, or may be 0.  A packet without a connection (INVALID, UNTRACKED) counts until the next look.

The corner: the kernel looks no further than the packet's own connection, nor past the ninth that has ended, and may hold one
twice; we do not.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy

from nfqfw._atomic cimport lock, unlock
from nfqfw._conn cimport ASSURED, DYING, ConnHot, is_expired, ticks
from nfqfw._named cimport NamedEntry, NamedTable, jiffies, named_add, named_find, named_hash, named_remove, named_used
from nfqfw._packet cimport HAS_L4, IPV4, Packet, destination, has, source
from nfqfw._program cimport Context


cdef enum:
    CONNLIMIT_ABOVE = 1         # ConnlimitInfo.flags
    CONNLIMIT_DESTINATION = 2
    CONNLIMIT_LIST = 0          # fourth word of a key: no member's, whose id is never 0
    CONNLIMIT_SWEEP = 4         # members looked at per packet in the order of use, so that forgotten lists go too
    CONNLIMIT_EMPTY = 15000     # jiffies, limits.CONNLIMIT_EMPTY: who meets such a list is dropped, so it may not go at once
    TCP = 6
    ENDED_TIME_WAIT = 7         # states of the TCP tracker, numbered as the kernel does
    ENDED_CLOSE = 8


cdef struct ConnlimitInfo:      # "<IIII2Q"
    uint32_t table
    uint32_t limit
    uint32_t flags
    uint32_t pad
    uint64_t mask[2]            # as in the packet


cdef struct ConnlimitList:      # key: masked address, zone, CONNLIMIT_LIST
    NamedEntry head
    ConnlimitMember* first
    int64_t looked              # jiffy of the last look at all members, or when it was made
    int64_t emptied             # jiffy when the last member left
    uint32_t count
    uint32_t passing            # packets without a connection since the last look


cdef struct ConnlimitMember:    # key: masked address, zone, connection number and id
    NamedEntry head
    ConnlimitList* list
    ConnlimitMember* before
    ConnlimitMember* after
    uint32_t conn
    uint32_t id


cdef inline bint connlimit_lives(const Context* c, uint32_t conn, uint32_t id) noexcept nogil:
    """The same life of the entry, neither expired nor closed.  An unconfirmed one is a packet on its way: it counts."""
    cdef const ConnHot* h = &c.conns.hot[conn]
    if h.commit == 0 or h.id != id or h.status & DYING or is_expired(h, ticks(c.now)):
        return False
    return not (h.proto == TCP and (h.state == ENDED_TIME_WAIT or h.state == ENDED_CLOSE))


cdef inline void connlimit_leave(NamedTable* t, ConnlimitMember* m, int64_t now) noexcept nogil:
    """Take a member off its list; the list stays."""
    if m.before != NULL:
        m.before.after = m.after
    else:
        m.list.first = m.after
    if m.after != NULL:
        m.after.before = m.before
    m.list.count -= 1
    m.list.emptied = now
    named_remove(t, &m.head)


cdef inline void connlimit_look(NamedTable* t, ConnlimitList* l, const Context* c, uint32_t own, int64_t now) noexcept nogil:
    """Take off what has ended; the connection `own`, of a packet that has joined, stays."""
    cdef ConnlimitMember* m = l.first
    cdef ConnlimitMember* after
    l.looked = now
    l.passing = 0
    while m != NULL:
        after = m.after
        if not (m.conn == own and m.id == c.conns.hot[own].id) and not connlimit_lives(c, m.conn, m.id):
            connlimit_leave(t, m, now)
        m = after


cdef inline bint connlimit_idle(const NamedTable* t, const NamedEntry* e, const Context* c, int64_t now) noexcept nogil:
    """A list that has been empty for long, or is in the way; a member that has ended and was not looked at in this jiffy."""
    cdef const ConnlimitList* l = <const ConnlimitList*>e
    cdef const ConnlimitMember* m = <const ConnlimitMember*>e
    if e.key[3] == CONNLIMIT_LIST:
        return l.count == 0 and (now - l.emptied > CONNLIMIT_EMPTY or (l.looked != now and 2 * t.count > t.shape.most))
    return m.list.looked != now and not connlimit_lives(c, m.conn, m.id)


cdef inline void connlimit_sweep(NamedTable* t, const Context* c, int64_t now) noexcept nogil:
    """The entries unused longest: those that are idle go, others wait for their next turn."""
    cdef uint32_t n
    cdef NamedEntry* e
    for n in range(CONNLIMIT_SWEEP):
        e = t.oldest
        if e == NULL:
            return
        if not connlimit_idle(t, e, c, now):
            named_used(t, e)
        elif e.key[3] == CONNLIMIT_LIST:
            named_remove(t, e)
        else:
            connlimit_leave(t, <ConnlimitMember*>e, now)


cdef inline ConnlimitList* connlimit_list(NamedTable* t, uint64_t* key, int64_t now, bint* fresh) noexcept nogil:
    """The list of an address, made if need be (fresh).  NULL: no room."""
    cdef uint64_t hash
    cdef ConnlimitList* l
    key[3] = CONNLIMIT_LIST
    hash = named_hash(t, key)
    l = <ConnlimitList*>named_find(t, key, hash)
    fresh[0] = l == NULL
    if l != NULL or t.count >= t.shape.most:
        return l
    l = <ConnlimitList*>malloc(sizeof(ConnlimitList))
    if l == NULL:
        return NULL
    l.first = NULL
    l.looked = l.emptied = now
    l.count = l.passing = 0
    named_add(t, &l.head, key, hash)
    return l


cdef inline bint connlimit_join(NamedTable* t, ConnlimitList* l, uint64_t* key, uint32_t conn, uint32_t id) noexcept nogil:
    """Put a connection on the list unless it is there.  False: no room."""
    cdef uint64_t hash
    cdef ConnlimitMember* m
    key[3] = (<uint64_t>conn << 32) | id
    hash = named_hash(t, key)
    if named_find(t, key, hash) != NULL:
        return True
    if t.count >= t.shape.most:
        return False
    m = <ConnlimitMember*>malloc(sizeof(ConnlimitMember))
    if m == NULL:
        return False
    m.list = l
    m.conn = conn
    m.id = id
    m.before = NULL
    m.after = l.first
    if l.first != NULL:
        l.first.before = m
    l.first = m
    l.count += 1
    named_add(t, &m.head, key, hash)
    return True


cdef inline bint connlimit_has_living(NamedTable* t, uint64_t* key, const Context* c, uint32_t conn) noexcept nogil:
    """The connection is on the list of the key, and lives."""
    cdef uint32_t id = c.conns.hot[conn].id
    key[3] = (<uint64_t>conn << 32) | id
    return connlimit_lives(c, conn, id) and named_find(t, key, named_hash(t, key)) != NULL


cdef inline uint32_t connlimit_count(NamedTable* t, const ConnlimitInfo* info, Packet* p, Context* c, uint64_t* key) noexcept nogil:
    """Connections of the packet's address; 0: none, or no room for one.  The caller holds the lock."""
    cdef int64_t now = jiffies(c.now)
    cdef ConnlimitList* l
    cdef bint fresh = False
    connlimit_sweep(t, c, now)
    l = connlimit_list(t, key, now, &fresh)
    if l == NULL:
        return 0
    if p.conn and c.conns.hot[p.conn].status & ASSURED and not fresh:
        if l.looked != now and (l.count + l.passing > info.limit or not connlimit_has_living(t, key, c, p.conn)):
            connlimit_look(t, l, c, 0, now)
        return l.count + l.passing
    if p.conn and not connlimit_join(t, l, key, p.conn, c.conns.hot[p.conn].id):
        return 0
    if l.count + l.passing + (p.conn == 0) > info.limit and l.looked != now:
        connlimit_look(t, l, c, p.conn, now)
    l.passing += p.conn == 0
    return l.count + l.passing


cdef inline bint nameless(const Packet* p) noexcept nogil:
    """The packet has no tuple: a later fragment, a broken header chain, a transport header cut before its ports."""
    if not p.flags & HAS_L4:
        return True
    if p.proto == 6 or p.proto == 17 or p.proto == 132 or p.proto == 136:
        return not has(p, p.thoff, 4)
    return p.proto == (1 if p.family == IPV4 else 58) and not has(p, p.thoff, 8)


cdef inline bint m_connlimit(Packet* p, const ConnlimitInfo* info, Context* c) noexcept nogil:
    """A packet that has no connection and cannot have one is dropped, and one for whose address nothing counts."""
    cdef NamedTable* t = c.named[info.table]
    cdef uint64_t key[5]
    cdef uint32_t count
    key[0] = key[1] = key[2] = key[3] = key[4] = 0
    if c.conns == NULL or (p.conn == 0 and nameless(p)):
        c.hotdrop = 1
        return False
    memcpy(key, destination(p) if info.flags & CONNLIMIT_DESTINATION else source(p), 4 if p.family == IPV4 else 16)
    key[0] &= info.mask[0]
    key[1] &= info.mask[1]
    if p.conn:
        key[2] = c.conns.hot[p.conn].zone[0]
    lock(&t.lock)
    count = connlimit_count(t, info, p, c, key)
    unlock(&t.lock)
    if count == 0:
        c.hotdrop = 1
        return False
    return (count > info.limit) ^ ((info.flags & CONNLIMIT_ABOVE) == 0)
