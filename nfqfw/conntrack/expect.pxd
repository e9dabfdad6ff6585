"""Expectations: connections that a master announced, by tuple and mask.  Header-only, used by the modules of the flow table alone.

Overview.  An expectation names the destination of a connection to come and, under a mask, its source.  The first packet that
fits makes a connection that is RELATED: EXPECTED, with its master's mark and label.  An expectation is used up by that, or
is PERMANENT; it ends with its time, with its master, by command, or when its master expects more than the helper's policy
allows (the oldest of the class goes).  Nothing fulfils one whose master is not confirmed yet: its packet has not left.

The entries are in the Arena; lists by destination and by master are derived from them, in process memory.

Locking.  One lock for all of it, taken behind a connection's and before the event ring's.  It costs a packet nothing while
there are no expectations: `count` is looked at first, and only where no connection was found.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from nfqfw._atomic cimport add32, fence, lock, store32, unlock
from nfqfw._conn cimport (CONFIRMED, CONN_RELATED, DYING, EXPECT_INACTIVE, EXPECT_PERMANENT, EXPECTED, ORIGINAL, TELL_CHOSEN,
                          TELL_EXPECT_DESTROY, TELL_EXPECT_NEW, TELL_HELPER, TELL_RELATED, TICKS, ConnCold, ConnHot, Expect, Tuple, read_tuple,
                          ticks)
from nfqfw.conntrack.table cimport (EVENT_EXPECT_DESTROY, EVENT_EXPECT_NEW, S_EXPECT_CREATE, S_EXPECT_DELETE, S_EXPECT_NEW, T_EVENTS,
                               T_EXPECT_MAX, Conntrack, ExpectIndex, ExpectRecord)
from nfqfw._ring cimport ring_commit, ring_reserve
from nfqfw._siphash cimport sip13
from nfqfw.conntrack.track cimport count


cdef enum:
    EXPECT_LISTS = 1024         # heads of ExpectIndex.bucket and .masters
    EXPECT_SWEEP = 64           # expectations that one call of the collector looks at


cdef enum ExpectError:          # answers of expect_insert
    EXPECT_MADE = 0
    EXPECT_CLASH = 1            # another one could be fulfilled by the same packet
    EXPECT_FULL = 2             # nf_conntrack_expect_max, or no room


cdef inline uint32_t expect_bucket(const Conntrack* t, const uint8_t* dst, uint16_t dport, uint8_t proto, uint8_t family) noexcept nogil:
    """List of the expectations with this destination."""
    cdef uint64_t words[3]
    memcpy(words, dst, 16)
    words[2] = (<uint64_t>dport << 16) | (<uint64_t>proto << 8) | family
    return <uint32_t>sip13(t.key, words, 3) & (EXPECT_LISTS - 1)


cdef inline bint masked_equal(const uint8_t* a, const uint8_t* b, const uint8_t* mask) noexcept nogil:
    cdef uint32_t k
    for k in range(16):
        if (a[k] ^ b[k]) & mask[k]:
            return False
    return True


cdef inline bint expect_fits(const Expect* e, const Tuple* a, uint16_t zone) noexcept nogil:
    """Would a packet with tuple `a` be what e waits for?"""
    return (e.dport == a.dport and e.proto == a.proto and e.family == a.family and e.zone == zone
            and memcmp(e.dst, a.dst, 16) == 0 and not (e.sport ^ a.sport) & e.sport_mask and masked_equal(e.src, a.src, e.src_mask))


cdef inline bint expects_same(const Expect* a, const Expect* b) noexcept nogil:
    """The same expectation once more: same master, class, tuple and mask."""
    return (a.master == b.master and a.klass == b.klass and a.dport == b.dport and a.proto == b.proto and a.family == b.family
            and a.zone == b.zone and memcmp(a.dst, b.dst, 16) == 0 and a.sport == b.sport and a.sport_mask == b.sport_mask
            and memcmp(a.src, b.src, 16) == 0 and memcmp(a.src_mask, b.src_mask, 16) == 0)


cdef inline bint expects_clash(const Expect* a, const Expect* b) noexcept nogil:
    """Is there a packet that would fulfil both?"""
    cdef uint8_t both[16]
    cdef uint32_t k
    for k in range(16):
        both[k] = a.src_mask[k] & b.src_mask[k]
    return (a.dport == b.dport and a.proto == b.proto and a.family == b.family and a.zone == b.zone and memcmp(a.dst, b.dst, 16) == 0
            and not (a.sport ^ b.sport) & a.sport_mask & b.sport_mask and masked_equal(a.src, b.src, both))


cdef inline bint expect_over(const Expect* e, uint32_t now) noexcept nogil:
    return <int32_t>(e.expires - now) <= 0


cdef inline void fill_expect(Conntrack* t, uint32_t n, uint16_t kind, ExpectRecord* r) noexcept nogil:
    """What a line about expectation n shows."""
    cdef const Expect* e = &t.table.expect[n]
    cdef int32_t left = <int32_t>(e.expires - ticks(t.now_ns))
    memset(r, 0, sizeof(ExpectRecord))
    r.size = sizeof(ExpectRecord)
    r.kind = kind
    r.helper = t.table.cold[e.master].helper
    r.wall_ns = t.now_ns + t.wall_offset
    r.timeout = <uint32_t>(left // TICKS) if left > 0 else 0
    r.number = n
    r.expect = e[0]
    read_tuple(&t.table, e.master, ORIGINAL, &r.master)


cdef inline void emit_expect(Conntrack* t, uint32_t n, uint16_t kind) noexcept nogil:
    cdef ExpectRecord* room
    cdef uint16_t chosen = t.table.cold[t.table.expect[n].master].ctevents
    if not t.events_on or not t.tunable[T_EVENTS]:
        return
    if chosen & TELL_CHOSEN and not chosen & (TELL_EXPECT_NEW if kind == EVENT_EXPECT_NEW else TELL_EXPECT_DESTROY):
        return
    lock(&t.event_lock)
    room = <ExpectRecord*>ring_reserve(&t.events, sizeof(ExpectRecord))
    if room != NULL:
        fill_expect(t, n, kind, room)
        ring_commit(&t.events, sizeof(ExpectRecord))
    unlock(&t.event_lock)


# ---- lists; the caller holds the lock ----------------------------------------------------------------------------------

cdef inline void expect_link(Conntrack* t, uint32_t n) noexcept nogil:
    """Into both lists, at their heads."""
    cdef ExpectIndex* x = t.expect
    cdef const Expect* e = &t.table.expect[n]
    cdef uint32_t b = expect_bucket(t, e.dst, e.dport, e.proto, e.family), m = e.master & (EXPECT_LISTS - 1)
    x.next[n] = x.bucket[b]
    x.bucket[b] = <uint16_t>n
    x.sibling[n] = x.masters[m]
    x.masters[m] = <uint16_t>n
    x.count += 1


cdef inline void list_drop(uint16_t* head, uint16_t* links, uint32_t n) noexcept nogil:
    cdef uint16_t* at = head
    while at[0] != 0 and at[0] != n:
        at = &links[at[0]]
    at[0] = links[n] if at[0] else 0


cdef inline void expect_end(Conntrack* t, uint32_t n) noexcept nogil:
    """Expectation n is over: told, unlinked, free."""
    cdef ExpectIndex* x = t.expect
    cdef Expect* e = &t.table.expect[n]
    emit_expect(t, n, EVENT_EXPECT_DESTROY)
    count(t, S_EXPECT_DELETE)
    list_drop(&x.bucket[expect_bucket(t, e.dst, e.dport, e.proto, e.family)], x.next, n)
    list_drop(&x.masters[e.master & (EXPECT_LISTS - 1)], x.sibling, n)
    x.count -= 1
    store32(&e.commit, 0)
    x.next[n] = x.free
    x.free = <uint16_t>n


cdef inline uint32_t expect_alloc(Conntrack* t) noexcept nogil:
    """A free number, 0 = none."""
    cdef ExpectIndex* x = t.expect
    cdef uint32_t n = x.free
    if n:
        x.free = x.next[n]
    elif t.header.expect_high < t.table.expect_slots:
        n = t.header.expect_high
        t.header.expect_high = n + 1
    return n


cdef inline bint master_lives(Conntrack* t, const Expect* e) noexcept nogil:
    """Is the master a confirmed connection still?"""
    cdef const ConnHot* c = &t.table.hot[e.master]
    return c.commit != 0 and c.id == e.master_id and (c.status & (CONFIRMED | DYING)) == CONFIRMED


cdef inline uint32_t expect_seek(Conntrack* t, const Tuple* a, uint16_t zone, uint32_t now) noexcept nogil:
    """The newest expectation that tuple `a` would fulfil (INACTIVE ones too), 0 = none."""
    cdef uint32_t n = t.expect.bucket[expect_bucket(t, a.dst, a.dport, a.proto, a.family)]
    while n and (expect_over(&t.table.expect[n], now) or not expect_fits(&t.table.expect[n], a, zone)):
        n = t.expect.next[n]
    return n


# ---- what others call --------------------------------------------------------------------------------------------------

cdef inline bint expect_take(Conntrack* t, const Tuple* a, uint16_t zone, uint32_t now, Expect* out) noexcept nogil:
    """A new connection's first packet has tuple `a`: was it expected?  Copies the expectation, and ends it unless PERMANENT."""
    cdef uint32_t n
    cdef bint found
    lock(&t.expect.lock)
    n = expect_seek(t, a, zone, now)
    while n and (t.table.expect[n].flags & EXPECT_INACTIVE or expect_over(&t.table.expect[n], now)
                 or not expect_fits(&t.table.expect[n], a, zone)):
        n = t.expect.next[n]
    found = n != 0 and master_lives(t, &t.table.expect[n])
    if found:
        count(t, S_EXPECT_NEW)
        out[0] = t.table.expect[n]
        if not out.flags & EXPECT_PERMANENT:
            expect_end(t, n)
    unlock(&t.expect.lock)
    return found


cdef inline void fulfil(Conntrack* t, uint32_t i, const Expect* e) noexcept nogil:
    """Connection i, new and locked, is what e expected."""
    cdef ConnHot* c = &t.table.hot[i]
    cdef ConnCold* cold = &t.table.cold[i]
    c.status |= EXPECTED
    c.flags |= CONN_RELATED
    c.mark = t.table.hot[e.master].mark
    cold.secmark = t.table.cold[e.master].secmark
    cold.master = e.master
    cold.master_id = e.master_id
    cold.master_helper = t.table.cold[e.master].helper
    cold.helper = e.helper
    cold.pending |= TELL_RELATED | (TELL_HELPER if e.helper else 0)
    add32(&t.table.cold[e.master].use, 1)


cdef inline void masters_oldest_out(Conntrack* t, const Expect* e) noexcept nogil:
    """Make room in the helper's policy for one more of e's class: the master's oldest goes."""
    cdef const uint16_t* policy = t.helper_policy[t.table.cold[e.master].helper & 31][e.klass & 3]
    cdef uint32_t n = t.expect.masters[e.master & (EXPECT_LISTS - 1)], oldest = 0, have = 0
    while n:
        if t.table.expect[n].master == e.master and t.table.expect[n].klass == e.klass:
            have += 1
            oldest = n
        n = t.expect.sibling[n]
    if policy[0] and have >= policy[0]:
        expect_end(t, oldest)


cdef inline int expect_insert(Conntrack* t, const Expect* e, uint32_t now) noexcept nogil:
    """Add an expectation (all of it but commit, expires, id); its time is the policy's of the master's helper.  ExpectError.

    The same one again replaces the old; one that the same packet could fulfil is refused.
    """
    cdef uint32_t n, behind
    cdef Expect* to
    cdef int answer = EXPECT_MADE
    lock(&t.expect.lock)
    n = t.expect.bucket[expect_bucket(t, e.dst, e.dport, e.proto, e.family)]
    while n:
        behind = t.expect.next[n]
        if expect_over(&t.table.expect[n], now) or expects_same(&t.table.expect[n], e):
            expect_end(t, n)
        elif expects_clash(&t.table.expect[n], e):
            answer = EXPECT_CLASH
        n = behind
    if answer == EXPECT_MADE:
        masters_oldest_out(t, e)
        n = expect_alloc(t) if t.expect.count < t.tunable[T_EXPECT_MAX] else 0
        if n == 0:
            answer = EXPECT_FULL
        else:
            to = &t.table.expect[n]
            store32(&to.commit, 1)
            fence()
            to[0] = e[0]
            to.commit = 1
            to.expires = now + t.helper_policy[t.table.cold[e.master].helper & 31][e.klass & 3][1] * TICKS
            to.id = n ^ now
            fence()
            store32(&to.commit, 2)
            expect_link(t, n)
            count(t, S_EXPECT_CREATE)
            emit_expect(t, n, EVENT_EXPECT_NEW)
    unlock(&t.expect.lock)
    return answer


cdef inline void expect_orphans(Conntrack* t, uint32_t master) noexcept nogil:
    """The master ends, and what it expects with it."""
    cdef uint32_t n, behind
    lock(&t.expect.lock)
    n = t.expect.masters[master & (EXPECT_LISTS - 1)]
    while n:
        behind = t.expect.sibling[n]
        if t.table.expect[n].master == master:
            expect_end(t, n)
        n = behind
    unlock(&t.expect.lock)


cdef inline void expect_sweep(Conntrack* t, uint32_t now) noexcept nogil:
    """End some whose time is over."""
    cdef uint32_t k, n
    lock(&t.expect.lock)
    n = t.expect.cursor
    for k in range(EXPECT_SWEEP):
        n = n + 1 if n + 1 < t.header.expect_high else 1
        if t.table.expect[n].commit and expect_over(&t.table.expect[n], now):
            expect_end(t, n)
    t.expect.cursor = n
    unlock(&t.expect.lock)


cdef inline void expect_rebuild(Conntrack* t) noexcept nogil:
    """Lists from the entries alone, after a take-over; what is half written or has lost its master is thrown away."""
    cdef uint32_t n
    for n in range(1, t.header.expect_high):
        if t.table.expect[n].commit == 0 or t.table.expect[n].commit & 1 or not (
                t.table.expect[n].master < t.table.capacity and master_lives(t, &t.table.expect[n])):
            store32(&t.table.expect[n].commit, 0)
            t.expect.next[n] = t.expect.free
            t.expect.free = <uint16_t>n
        else:
            expect_link(t, n)
