"""Life of an entry: allocated, indexed, killed, collected; and what is told about it.  Header-only, used by the modules of the flow table alone.

Lock order: a connection's stripe, then a bucket's stripe, then the allocator or the event ring.  Nothing is killed while a
bucket's lock is held, and nobody holds two connection locks.

A freed entry keeps its bytes until it is used again, and it is used again late (REUSE_DISTANCE): a packet that refers to
an entry that ended while it waited in a queue still reads the mark and status that it had.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from nfqfw._atomic cimport add32, fence, load32, load64, lock, or32, store32, unlock
from nfqfw._conn cimport (ASSURED, CONFIRMED, CONN_ACCT, CONN_EVENT, CONN_HIDDEN, CONN_LABELS, CONN_STAMPED, CONN_TWO, DYING, ORIGINAL,
                          REPLY, TELL_CHOSEN, TELL_DESTROY, TICKS, ConnAcct, ConnAddr6, ConnHot, ConnLabels, Tuple, is_expired, read_tuple, ticks)
from nfqfw.conntrack.table cimport (BUCKET_SLOTS, EVENT_DESTROY, EVENT_NEW, LOCKS, REUSE_DISTANCE, S_DELETED, S_EARLY_DROP, T_EVENTS, T_MAX,
                               T_TIMESTAMP, Bucket, ConnRecord, Conntrack)
from nfqfw._ring cimport ring_commit, ring_reserve
from nfqfw.conntrack.expect cimport expect_orphans
from nfqfw.conntrack.index cimport bucket_lock, index_put, index_remove, next_bucket
from nfqfw.conntrack.tcp cimport closing
from nfqfw.conntrack.track cimport count
from nfqfw.conntrack.tuple cimport PROTO_GRE, PROTO_SCTP, PROTO_TCP, hash_tuple


cdef enum:
    EARLY_DROP_BUCKETS = 8      # buckets searched for somebody less important when the table is full
    STRAY_NS_SECONDS = 600      # an unconfirmed entry this old has been forgotten by whoever held it


cdef inline uint32_t* conn_lock(Conntrack* t, uint32_t i) noexcept nogil:
    return &t.conn_locks[i & (LOCKS - 1)]


cdef inline uint32_t seconds_left(Conntrack* t, uint32_t i) noexcept nogil:
    cdef const ConnHot* c = &t.table.hot[i]
    cdef int32_t left = <int32_t>(c.expires - ticks(t.now_ns)) if c.status & CONFIRMED else <int32_t>c.expires
    return <uint32_t>(left // TICKS) if left > 0 else 0


cdef inline void fill_record(Conntrack* t, uint32_t i, uint16_t kind, ConnRecord* r) noexcept nogil:
    """Everything that a line about entry i shows."""
    cdef const ConnHot* c = &t.table.hot[i]
    memset(r, 0, sizeof(ConnRecord))
    r.size = sizeof(ConnRecord)
    r.kind = kind
    r.wall_ns = t.now_ns + t.wall_offset
    r.timeout = seconds_left(t, i)
    r.number = i
    r.start_wall_ns = t.table.cold[i].start_ns + t.wall_offset if c.flags & CONN_STAMPED else 0
    r.master = t.table.cold[i].master
    r.use = 1 + t.table.cold[i].use
    r.helper = t.table.cold[i].helper
    r.secmark = t.table.cold[i].secmark
    r.hot = c[0]
    if c.family != 2:
        r.addr6 = t.table.addr6[i]
    if c.flags & CONN_ACCT:
        r.acct = t.table.acct[i]
    if c.flags & CONN_LABELS:
        r.labels = t.table.labels[i]
    if c.proto == PROTO_SCTP or c.proto == PROTO_GRE:
        memcpy(r.words, &t.table.window[i], 8)
    if kind == EVENT_DESTROY and r.start_wall_ns:
        r.stop_wall_ns = r.wall_ns


cdef inline void emit(Conntrack* t, uint32_t i, uint16_t kind, uint16_t bits, uint32_t portid) noexcept nogil:
    """Tell whoever listens, if any of `bits` (EventBit) is wanted.  The ring drops and counts what does not fit."""
    cdef ConnRecord* room
    cdef uint16_t chosen = t.table.cold[i].ctevents
    if not t.events_on or not t.tunable[T_EVENTS] or t.table.hot[i].flags & CONN_HIDDEN:
        return
    if chosen & TELL_CHOSEN and not chosen & bits & ~<uint32_t>TELL_CHOSEN:
        return                                  # CT --ctevents
    lock(&t.event_lock)
    room = <ConnRecord*>ring_reserve(&t.events, sizeof(ConnRecord))
    if room != NULL:
        fill_record(t, i, kind, room)
        room.portid = portid
        room.told = bits
        ring_commit(&t.events, sizeof(ConnRecord))
    unlock(&t.event_lock)


cdef inline uint32_t entry_alloc(Conntrack* t) noexcept nogil:
    """A free entry's number, 0 = none left.  Fresh ones first while few are waiting: late reuse, little memory."""
    cdef uint32_t i = 0
    lock(&t.alloc_lock)
    if t.free_count > REUSE_DISTANCE or (t.header.high >= t.header.slots and t.free_count):
        i = t.free_head
        t.free_head = t.table.cold[i].next_free
        t.free_count -= 1
        if t.free_count == 0:
            t.free_tail = 0
    elif t.header.high < t.header.slots:
        i = t.header.high
        t.header.high = i + 1
    unlock(&t.alloc_lock)
    return i


cdef inline void entry_free(Conntrack* t, uint32_t i) noexcept nogil:
    """Give a number back; nobody finds it any more.  What the packet that ended the connection may still ask of it stays."""
    cdef ConnHot* c = &t.table.hot[i]
    store32(&c.commit, 0)
    lock(&t.alloc_lock)
    t.table.cold[i].next_free = 0
    if t.free_count == 0:
        t.free_head = i
    else:
        t.table.cold[t.free_tail].next_free = i
    t.free_tail = i
    t.free_count += 1
    unlock(&t.alloc_lock)
    add32(&t.count, 0xffffffffU)


cdef inline uint64_t entry_hash(Conntrack* t, uint32_t i, uint32_t direction) noexcept nogil:
    cdef Tuple a
    read_tuple(&t.table, i, direction, &a)
    return hash_tuple(t.key, &a)


cdef inline bint put_hash(Conntrack* t, uint64_t hash, uint32_t i) noexcept nogil:
    cdef bint done
    lock(bucket_lock(t, hash))
    done = index_put(t.index, hash, i)
    unlock(bucket_lock(t, hash))
    return done


cdef inline void drop_hash(Conntrack* t, uint64_t hash, uint32_t i) noexcept nogil:
    lock(bucket_lock(t, hash))
    index_remove(t.index, hash, i)
    unlock(bucket_lock(t, hash))


cdef inline void unlink_entry(Conntrack* t, uint32_t i) noexcept nogil:
    """Out of the index, both directions; the caller holds the connection's lock."""
    drop_hash(t, entry_hash(t, i, ORIGINAL), i)
    if t.table.hot[i].flags & CONN_TWO:
        drop_hash(t, entry_hash(t, i, REPLY), i)


cdef inline void kill_locked(Conntrack* t, uint32_t i, uint32_t portid) noexcept nogil:
    """End entry i; the caller holds its lock and has seen that it is alive."""
    cdef ConnHot* c = &t.table.hot[i]
    cdef uint32_t master = t.table.cold[i].master
    unlink_entry(t, i)
    if c.status & CONFIRMED:
        emit(t, i, EVENT_DESTROY, TELL_DESTROY, portid)
    if master and t.table.hot[master].commit and t.table.hot[master].id == t.table.cold[i].master_id:
        add32(&t.table.cold[master].use, 0xffffffffU)
    if t.expect.count and t.table.cold[i].helper:
        expect_orphans(t, i)
    or32(&c.status, DYING)
    count(t, S_DELETED)
    entry_free(t, i)


cdef inline bint kill_expired(Conntrack* t, uint32_t i, uint32_t now) noexcept nogil:
    """End entry i if its time is over (looked at again under its lock)."""
    cdef ConnHot* c = &t.table.hot[i]
    cdef bint dead
    lock(conn_lock(t, i))
    dead = c.commit != 0 and is_expired(c, now)
    if dead:
        kill_locked(t, i, 0)
    unlock(conn_lock(t, i))
    return dead


cdef inline bint kill_unassured(Conntrack* t, uint32_t i, bint closing_too) noexcept nogil:
    """End entry i if nobody would miss it: confirmed and not ASSURED, or (closing_too) a TCP connection on its way out."""
    cdef ConnHot* c = &t.table.hot[i]
    cdef bint dead
    lock(conn_lock(t, i))
    dead = c.commit != 0 and (c.status & CONFIRMED) != 0 and (not c.status & ASSURED or (
        closing_too and c.proto == PROTO_TCP and closing(c.state)))
    if dead:
        kill_locked(t, i, 0)
    unlock(conn_lock(t, i))
    return dead


cdef inline bint early_drop(Conntrack* t, uint64_t hash) noexcept nogil:
    """The table is full: end what is not ASSURED in the first of eight buckets that has any.  False: found nobody."""
    cdef const Bucket* b
    cdef uint32_t n, k, i, killed = 0
    for n in range(EARLY_DROP_BUCKETS):
        b = &t.index.buckets[(hash + n) & (t.index.n_buckets - 1)]
        while b != NULL:
            for k in range(BUCKET_SLOTS):
                i = b.conn[k]
                if b.tag[k] and kill_unassured(t, i, False):
                    count(t, S_EARLY_DROP)
                    killed += 1
            b = next_bucket(t.index, b)
        if killed:
            return True
    return False


cdef inline bint is_stray(Conntrack* t, uint32_t i) noexcept nogil:
    """An unconfirmed entry whose packet never came to its last hook, and of which nobody said so."""
    cdef uint64_t start = t.table.cold[i].start_ns, now = load64(&t.now_ns)
    return now > start and now - start > <uint64_t>STRAY_NS_SECONDS * 1000000000


cdef inline void kill_stray(Conntrack* t, uint32_t i) noexcept nogil:
    """End entry i if it is one: looked at again under its lock, for one that is just being made has no start yet."""
    cdef ConnHot* c = &t.table.hot[i]
    lock(conn_lock(t, i))
    if c.commit and not c.status & CONFIRMED and is_stray(t, i):
        kill_locked(t, i, 0)
    unlock(conn_lock(t, i))


cdef inline void collect(Conntrack* t, uint32_t i, uint32_t now) noexcept nogil:
    """What the collector does with one entry."""
    cdef ConnHot* c = &t.table.hot[i]
    if c.commit == 0:
        return
    if not c.status & CONFIRMED:
        if is_stray(t, i):
            kill_stray(t, i)
    elif is_expired(c, now):
        kill_expired(t, i, now)
    elif t.early_drop and t.count > t.tunable[T_MAX] - t.tunable[T_MAX] // 20:
        if kill_unassured(t, i, True):
            count(t, S_EARLY_DROP)
