"""Index: from a tuple's hash to the entry's number.  Header-only.

Overview.  A bucket is one cache line: ten 16-bit tags, ten entry numbers, the number of an overflow bucket.  Low bits of
the hash choose the bucket, the top bits are the tag.  Chains are bounded (CHAIN_BUCKETS); overflow buckets are never given
back before the index is rebuilt, so a reader that walks without a lock can never leave the memory or walk in circles.

Locking.  Insert and remove hold the bucket's stripe lock.  Find holds nothing: it may miss an entry that is being inserted
(the caller looks again under the lock before it makes one) and may see one that is being removed (the caller looks again
under the entry's lock before it uses it).
"""

from libc.stdint cimport int32_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from nfqfw._atomic cimport load16, load32, lock, lowest, match10, prefetch, store16, store32, unlock
from nfqfw._conn cimport CONFIRMED, CONN_HIDDEN, ConnHot, Tuple, is_expired
from nfqfw.conntrack.table cimport BUCKET_SLOTS, CHAIN_BUCKETS, LOCKS, Bucket, Conntrack, Index
from nfqfw.conntrack.tuple cimport PROTO_TCP, directions

cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void* address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void* address, size_t length)
    int madvise(void* address, size_t length, int advice)
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE, MADV_HUGEPAGE
    void* MAP_FAILED


cdef enum Find:                 # which entries a lookup may return
    FIND_ORIGINAL = 1           # match in the original direction
    FIND_REPLY = 2
    FIND_BOTH = 3
    FIND_NEW_ORIGINAL = 4       # unconfirmed entries too, by their original tuple
    FIND_NEW_REPLY = 8          # ... by their reply tuple
    FIND_ANY = 15


cdef inline uint16_t tag_of(uint64_t hash) noexcept nogil:
    cdef uint16_t tag = <uint16_t>(hash >> 48)
    return tag if tag else 1


cdef inline Bucket* bucket_of(const Index* x, uint64_t hash) noexcept nogil:
    return &x.buckets[hash & (x.n_buckets - 1)]


cdef inline uint32_t* bucket_lock(Conntrack* t, uint64_t hash) noexcept nogil:
    return &t.bucket_locks[hash & (LOCKS - 1)]


cdef inline Bucket* next_bucket(const Index* x, const Bucket* b) noexcept nogil:
    """The overflow bucket behind b, NULL = none."""
    cdef uint32_t number = load32(&b.next)
    return &x.buckets[x.n_buckets + number] if number else NULL


cdef inline Index* index_make(uint32_t entries) noexcept nogil:
    """An empty index for about that many entries: 16 bytes per entry at full load.  NULL: no memory."""
    cdef Index* x = <Index*>malloc(sizeof(Index))
    cdef uint32_t n = 64
    cdef void* at
    if x == NULL:
        return NULL
    while n < entries // 5 and n < 0x10000000:
        n <<= 1
    x.n_buckets = n
    x.n_overflow = n
    x.overflow_used = 0
    x.lock = 0
    x.older = NULL
    at = mmap(NULL, 2 * <size_t>n * sizeof(Bucket), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if at == MAP_FAILED:
        free(x)
        return NULL
    madvise(at, <size_t>n * sizeof(Bucket), MADV_HUGEPAGE)
    x.buckets = <Bucket*>at
    return x


cdef inline void index_free(Index* x) noexcept nogil:
    if x != NULL:
        munmap(x.buckets, 2 * <size_t>x.n_buckets * sizeof(Bucket))
        free(x)


cdef inline bint index_put(Index* x, uint64_t hash, uint32_t i) noexcept nogil:
    """Add one entry; the caller holds the bucket's lock.  False: the chain, or the room for overflow, is full."""
    cdef Bucket* b = bucket_of(x, hash)
    cdef Bucket* more
    cdef uint32_t k, depth, number
    for depth in range(CHAIN_BUCKETS):
        for k in range(BUCKET_SLOTS):
            if b.tag[k] == 0:
                store32(&b.conn[k], i)
                store16(&b.tag[k], tag_of(hash))
                return True
        more = next_bucket(x, b)
        if more == NULL:
            if depth + 1 >= CHAIN_BUCKETS:
                return False
            lock(&x.lock)
            number = x.overflow_used + 1
            if number < x.n_overflow:
                x.overflow_used = number
            unlock(&x.lock)
            if number >= x.n_overflow:
                return False
            more = &x.buckets[x.n_buckets + number]
            store32(&b.next, number)
        b = more
    return False


cdef inline void index_remove(Index* x, uint64_t hash, uint32_t i) noexcept nogil:
    """Take one entry out; the caller holds the bucket's lock."""
    cdef Bucket* b = bucket_of(x, hash)
    cdef uint32_t k
    cdef uint16_t tag = tag_of(hash)
    while b != NULL:
        for k in range(BUCKET_SLOTS):
            if b.tag[k] == tag and b.conn[k] == i:
                store16(&b.tag[k], 0)
                return
        b = next_bucket(x, b)


cdef inline uint32_t eligible(const ConnHot* c, uint32_t which) noexcept nogil:
    """Directions (bits) by which a lookup of this kind may find the entry."""
    if not c.status & CONFIRMED:
        return which >> 2
    return which & (FIND_REPLY if c.flags & CONN_HIDDEN else FIND_BOTH)     # hidden: lost a clash, known by its reply only


cdef inline uint32_t index_find(Conntrack* t, const Tuple* a, uint64_t hash, uint32_t now, uint32_t which, uint32_t ignored,
                                uint32_t* direction, uint32_t* stale) noexcept nogil:
    """Entry with this tuple, 0 = none; `direction` says which of its tuples it is.

    An entry whose time is over is absent; its number is left in `stale` (unless NULL) for the caller to delete.  Two entries
    can have one tuple where a zone is that of one direction only: the newer answers, as in the kernel, which looks at the
    newest of a hash chain first.  An entry whose two tuples are one (NAT can make them so) is found by its reply, for the same
    reason.
    """
    cdef const Index* x = t.index
    cdef const Bucket* b = bucket_of(x, hash)
    cdef const ConnHot* c
    cdef uint16_t tag = tag_of(hash)
    cdef uint32_t k, i, found, mask, best = 0
    while b != NULL:
        mask = match10(b.tag, tag)
        while mask:
            k = lowest(mask)
            mask &= mask - 1
            i = load32(&b.conn[k])
            if i == ignored:
                continue
            c = &t.table.hot[i]
            if a.proto == PROTO_TCP:
                prefetch(&t.table.window[i])    # the tracker wants it next: both lines come at once
            found = directions(&t.table, i, a, hash) & eligible(c, which)
            if found == 0 or c.commit == 0:
                continue
            if is_expired(c, now):
                if stale != NULL:
                    stale[0] = i
                continue
            if best and t.table.cold[i].start_ns <= t.table.cold[best].start_ns:
                continue
            direction[0] = found >> 1
            best = i
        if best:
            return best
        b = next_bucket(x, b)
    return 0
