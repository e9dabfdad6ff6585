"""Index, free list and count from the arrays alone: after a take-over, and for a larger index.  Header-only, used by `_memory` and `_entries`."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from nfqfw._atomic cimport fence, lock, prefetch, unlock
from nfqfw._conn cimport CONFIRMED, CONN_HIDDEN, CONN_TIMEOUTS, CONN_TWO, ORIGINAL, REPLY, ConnHot
from nfqfw._packet cimport IPV4, IPV6
from nfqfw.conntrack.expect cimport expect_rebuild
from nfqfw.conntrack.index cimport bucket_of, index_put
from nfqfw.conntrack.life cimport entry_free, entry_hash
from nfqfw.conntrack.policy cimport policies_rebuild
from nfqfw.conntrack.table cimport LOCKS, Conntrack, Index
from nfqfw.conntrack.tcp cimport SIDE_LIBERAL
from nfqfw.conntrack.tuple cimport PROTO_SCTP, PROTO_TCP


cdef enum:
    REBUILD_BLOCK = 16          # entries hashed ahead of their insertion when the index is rebuilt
    TCP_STATES = 10             # rows of Conntrack.tcp_next and .sctp_next
    SCTP_STATES = 9


cdef inline uint32_t states_of(uint8_t proto) noexcept nogil:
    """How many states the protocol's table has; 256 where no table is indexed by it."""
    if proto == PROTO_TCP:
        return TCP_STATES
    return SCTP_STATES if proto == PROTO_SCTP else 256


cdef inline bint holds_together(const Conntrack* t, uint32_t i) noexcept nogil:
    """Is entry i one that a table of ours can have written?  Its numbers are used as places without another look."""
    cdef const ConnHot* c = &t.table.hot[i]
    return ((c.family == IPV4 or c.family == IPV6) and c.state < states_of(c.proto) and t.table.cold[i].master < t.table.capacity
            and (not c.flags & CONN_TIMEOUTS or t.table.cold[i].timeout_policy < t.table.policy_slots))


cdef inline void move_entries(Conntrack* t, Index* bigger) noexcept nogil:
    """Put every indexed entry into `bigger` and use it from now on; nobody inserts or removes meanwhile."""
    cdef uint32_t n, i
    for n in range(LOCKS):
        lock(&t.bucket_locks[n])
    for i in range(1, t.header.high):
        if t.table.hot[i].commit:
            index_put(bigger, entry_hash(t, i, ORIGINAL), i)
            if t.table.hot[i].flags & CONN_TWO:
                index_put(bigger, entry_hash(t, i, REPLY), i)
    fence()
    t.index = bigger
    for n in range(LOCKS):
        unlock(&t.bucket_locks[n])


cdef inline void rebuild(Conntrack* t) noexcept nogil:
    """Index, free list and count from the arrays alone; whatever a kill left half made is thrown away."""
    cdef uint64_t hash[16]
    cdef uint32_t number[16]
    cdef uint32_t i, k, n = 0
    cdef ConnHot* c
    for i in range(1, t.header.high + 1):
        if i < t.header.high:
            prefetch(&t.table.hot[i + 16])
            c = &t.table.hot[i]
            if c.commit == 0 or c.commit & 1 or not c.status & CONFIRMED or c.flags & CONN_HIDDEN or not holds_together(t, i):
                t.count += 1                    # entry_free takes it off again
                entry_free(t, i)
            else:
                t.count += 1
                if c.proto == PROTO_TCP and t.table.window[i].guard & 1:
                    t.table.window[i].side[0].flags |= SIDE_LIBERAL
                    t.table.window[i].side[1].flags |= SIDE_LIBERAL
                    t.table.window[i].guard += 1
                c.cache[0] = c.cache[1] = 0             # paths of the process that is gone
                number[n] = i
                hash[n] = entry_hash(t, i, ORIGINAL)
                prefetch(bucket_of(t.index, hash[n]))
                n += 1
        if n == REBUILD_BLOCK or (i == t.header.high and n):
            for k in range(n):
                index_put(t.index, hash[k], number[k])
                if t.table.hot[number[k]].flags & CONN_TWO:
                    index_put(t.index, entry_hash(t, number[k], REPLY), number[k])
            n = 0
    expect_rebuild(t)
    policies_rebuild(t)
