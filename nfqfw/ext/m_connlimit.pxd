"""match connlimit: how many living connections an address or network has.  Header-only.

Each rule has a table of its own: a list per address, which counts, and a member per connection and list.  A packet whose
connection is not on the list of its address joins it, whatever its state; a connection leaves when its flow is gone, or is TCP
in TIME_WAIT or CLOSE and not the packet's own.  Members are looked over when the count would be above the limit, once per jiffy
and list, so that a list within its limit costs one lookup: members that have ended can only make the count too high.

The corner: within one jiffy of 4 ms the count may still hold connections that ended in it, as the kernel's does.  The kernel,
besides, looks no further than the packet's own connection, nor past the ninth that has ended, and may hold one twice; we do not.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy

from nfqfw._atomic cimport lock, unlock
from nfqfw._conn cimport DYING, ConnHot, is_expired, ticks
from nfqfw._named cimport NamedEntry, NamedTable, jiffies, named_add, named_find, named_hash, named_remove, named_used
from nfqfw._packet cimport HAS_L4, IPV4, Packet, destination, has, source
from nfqfw._program cimport Context


cdef enum:
    CONNLIMIT_ABOVE = 1         # ConnlimitInfo.flags
    CONNLIMIT_DESTINATION = 2
    CONNLIMIT_LIST = 0          # fourth word of a key: no member's, whose id is never 0
    CONNLIMIT_SWEEP = 4         # members looked at per packet in the order of use, so that forgotten lists go too
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
    int64_t looked              # jiffy of the last look at all members
    uint32_t count
    uint32_t pad


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


cdef inline void connlimit_leave(NamedTable* t, ConnlimitMember* m) noexcept nogil:
    """Take a member off its list; the list stays."""
    if m.before != NULL:
        m.before.after = m.after
    else:
        m.list.first = m.after
    if m.after != NULL:
        m.after.before = m.before
    m.list.count -= 1
    named_remove(t, &m.head)


cdef inline void connlimit_look(NamedTable* t, ConnlimitList* l, const Context* c, uint32_t own, int64_t now) noexcept nogil:
    """Take off what has ended; the packet's own connection stays."""
    cdef ConnlimitMember* m = l.first
    cdef ConnlimitMember* after
    l.looked = now
    while m != NULL:
        after = m.after
        if not (m.conn == own and m.id == c.conns.hot[own].id) and not connlimit_lives(c, m.conn, m.id):
            connlimit_leave(t, m)
        m = after


cdef inline void connlimit_sweep(NamedTable* t, const Context* c) noexcept nogil:
    """The entries unused longest: ended members and empty lists go, others wait for their next turn."""
    cdef uint32_t n
    cdef NamedEntry* e
    for n in range(CONNLIMIT_SWEEP):
        e = t.oldest
        if e == NULL:
            return
        if e.key[3] == CONNLIMIT_LIST:
            if (<ConnlimitList*>e).count == 0:
                named_remove(t, e)
                continue
        elif not connlimit_lives(c, (<ConnlimitMember*>e).conn, (<ConnlimitMember*>e).id):
            connlimit_leave(t, <ConnlimitMember*>e)
            continue
        named_used(t, e)


cdef inline ConnlimitList* connlimit_list(NamedTable* t, uint64_t* key) noexcept nogil:
    """The list of an address, made if need be.  NULL: no room."""
    cdef uint64_t hash
    cdef ConnlimitList* l
    key[3] = CONNLIMIT_LIST
    hash = named_hash(t, key)
    l = <ConnlimitList*>named_find(t, key, hash)
    if l != NULL or t.count >= t.shape.most:
        return l
    l = <ConnlimitList*>malloc(sizeof(ConnlimitList))
    if l == NULL:
        return NULL
    l.first = NULL
    l.looked = -1
    l.count = 0
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


cdef inline uint32_t connlimit_count(NamedTable* t, const ConnlimitInfo* info, Packet* p, Context* c, uint64_t* key) noexcept nogil:
    """Connections of the packet's address, its own included; 0: no room.  The caller holds the lock."""
    cdef ConnlimitList* l
    cdef uint32_t extra = 0
    connlimit_sweep(t, c)
    l = connlimit_list(t, key)
    if l == NULL:
        return 0
    if p.conn == 0:
        extra = 1                                   # no connection (INVALID, UNTRACKED): counts while it is here
    elif not connlimit_join(t, l, key, p.conn, c.conns.hot[p.conn].id):
        return 0
    if l.count + extra > info.limit and l.looked != jiffies(c.now):
        connlimit_look(t, l, c, p.conn, jiffies(c.now))
    return l.count + extra


cdef inline bint nameless(const Packet* p) noexcept nogil:
    """The packet has no tuple: a later fragment, a broken header chain, a transport header cut before its ports."""
    if not p.flags & HAS_L4:
        return True
    if p.proto == 6 or p.proto == 17 or p.proto == 132 or p.proto == 136:
        return not has(p, p.thoff, 4)
    return p.proto == (1 if p.family == IPV4 else 58) and not has(p, p.thoff, 8)


cdef inline bint m_connlimit(Packet* p, const ConnlimitInfo* info, Context* c) noexcept nogil:
    """A packet that has no connection and cannot have one is dropped."""
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
