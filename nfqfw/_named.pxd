"""Tables that matches keep beside the Program: recent, hashlimit, connlimit.  Header-only.

Overview.  A table maps keys of five words to entries of its match's own making.  It lives in process memory, outlives the
Program (see _registry) and is bounded: `most` entries, in `buckets` chains under a keyed hash.  Entries also stand in one
list from the longest to the latest used.

Locking.  One spin lock per table; whoever reads or changes anything but `shape` holds it.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp

from nfqfw._siphash cimport sip13

cdef enum:
    NAMED_JIFFY_NS = 4000000    # HZ 250, as the kernel's clock of these matches
    NAMED_JIFFIES_PER_SECOND = 250
    NAMED_KEY = 5


cdef struct NamedEntry:         # the head of every match's entry
    NamedEntry* chain           # next in its bucket
    NamedEntry* older           # the order of use
    NamedEntry* newer
    uint64_t hash
    uint64_t key[5]


cdef struct NamedShape:         # "<4I": what every lowering gives, before its own part
    uint32_t buckets            # rounded up to a power of two
    uint32_t most               # entries
    uint32_t ring               # recent: stamps of an entry, a power of two; a rule that asks for more empties the table
    uint32_t spare


cdef struct NamedTable:
    uint32_t lock
    uint32_t count
    uint32_t mask               # buckets - 1
    uint32_t pad
    NamedShape shape
    uint64_t own[16]            # the match's configuration: that of the first rule
    uint64_t secret[2]
    NamedEntry** bucket
    NamedEntry* oldest
    NamedEntry* newest
    int64_t clean_at            # jiffy of the next clean-up (hashlimit); 0 = none has been set
    int64_t cleaned_at          # jiffy of the last


cdef inline int64_t jiffies(uint64_t now_ns) noexcept nogil:
    return <int64_t>(now_ns // NAMED_JIFFY_NS)


cdef inline uint64_t named_hash(const NamedTable* t, const uint64_t* key) noexcept nogil:
    return sip13(t.secret, key, NAMED_KEY)


cdef inline NamedEntry* named_find(NamedTable* t, const uint64_t* key, uint64_t hash) noexcept nogil:
    cdef NamedEntry* e = t.bucket[hash & t.mask]
    while e != NULL and not (e.hash == hash and memcmp(e.key, key, sizeof(e.key)) == 0):
        e = e.chain
    return e


cdef inline void named_unlink(NamedTable* t, NamedEntry* e) noexcept nogil:
    """Out of the order of use."""
    if e.older != NULL:
        e.older.newer = e.newer
    else:
        t.oldest = e.newer
    if e.newer != NULL:
        e.newer.older = e.older
    else:
        t.newest = e.older


cdef inline void named_link(NamedTable* t, NamedEntry* e) noexcept nogil:
    """In as the latest used."""
    e.older = t.newest
    e.newer = NULL
    if t.newest != NULL:
        t.newest.newer = e
    else:
        t.oldest = e
    t.newest = e


cdef inline void named_used(NamedTable* t, NamedEntry* e) noexcept nogil:
    if t.newest != e:
        named_unlink(t, e)
        named_link(t, e)


cdef inline void named_add(NamedTable* t, NamedEntry* e, const uint64_t* key, uint64_t hash) noexcept nogil:
    """Take in an entry that malloc made, as the latest used; the caller has looked at shape.most."""
    cdef uint32_t i
    for i in range(NAMED_KEY):
        e.key[i] = key[i]
    e.hash = hash
    e.chain = t.bucket[hash & t.mask]
    t.bucket[hash & t.mask] = e
    named_link(t, e)
    t.count += 1


cdef inline void named_remove(NamedTable* t, NamedEntry* e) noexcept nogil:
    """Take out and free."""
    cdef NamedEntry** at = &t.bucket[e.hash & t.mask]
    while at[0] != e:
        at = &at[0].chain
    at[0] = e.chain
    named_unlink(t, e)
    t.count -= 1
    free(e)


cdef inline void named_flush(NamedTable* t) noexcept nogil:
    while t.oldest != NULL:
        named_remove(t, t.oldest)
