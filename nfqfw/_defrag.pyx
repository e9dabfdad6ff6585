"""Virtual reassembly: hold the fragments, judge the datagram once, let the originals go in offset order.

Overview.  Where rules track connections the kernel reassembles before the first table, so that rules see ports and
payload; we do the same without sending anything merged: `defrag_add` keeps a copy of each fragment while the packet waits
in its queue, and answers with the whole datagram when the last hole is filled.  The engine judges that, and
`defrag_release` gives every fragment the verdict, mark and rewritten bytes of the whole.

Rules about overlaps, duplicates, lengths, ECN, TOS, DF and time are the kernel's (spec/conntrack.md 3): a fragment inside
what is already there is a duplicate; one that overlaps in part ends its datagram.  Stricter than the kernel, on purpose:
64 fragments per datagram, 1/8 of the queue's length in all, no source may hold more than a quarter of the memory, and a
full table lets its oldest datagrams go (the kernel refuses new ones).
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from nfqfw._checksum cimport fold, sum_bytes
from nfqfw.conntrack.table cimport T_FRAG6_TIMEOUT
from nfqfw._conntrack cimport Conntrack, conntrack_release
from nfqfw._inflight cimport mix64
from nfqfw._outbox cimport RELEASED_MAX, Outbox, Released, new_release
from nfqfw._packet cimport (DIRTY_MARK, DIRTY_PAYLOAD, DIRTY_PRIORITY, DROP, IPV4, IS_FRAGMENT, LATER_FRAGMENT, REASON_FRAG_BAD,
                            REASON_FRAG_ECN, REASON_FRAG_LIMIT, REASON_FRAG_OVERLAP, REASON_FRAG_TIMEOUT, REASON_REWRITE, REASON_TRUNCATED,
                            TRUNCATED, Packet, be16, destination, put16, source)
from nfqfw._parse cimport parse

import os

from nfqfw import limits

cdef extern from *:
    """
    /* Result codepoint to OR into the TOS by the set of ECN codepoints seen (bit 0 Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE);
       0xff = may not be mixed.  RFC 3168 5.3. */
    static const unsigned char nfqfw_ecn[16] = {
        0, 0, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 3, 0xff, 3, 0xff, 3, 0xff,
    };
    """
    const uint8_t ECN "nfqfw_ecn"[16]

cdef enum:
    BUCKETS = 4096
    SOURCES = 4096
    OVERHEAD = 2048             # limits.FRAGMENT_OVERHEAD
    PER_DATAGRAM = 64           # limits.FRAGMENTS_PER_DATAGRAM
    MAX_DISTANCE = 64           # ipfrag_max_dist
    MAX_LENGTH = 65535
    GROWTH = 64                 # bytes that a target or helper may add to a datagram: they go into its last fragment
    HEADER_ROOM = 128           # bytes copied in front of the data of an assembled datagram at most: IPv4 60

cdef uint32_t BYTES_MAX = limits.FRAGMENT_BYTES
cdef uint64_t TIMEOUT4 = limits.FRAGMENT_TIMEOUT_V4 * 1_000_000_000
cdef uint64_t SECOND_NS = 1_000_000_000
cdef uint64_t KEY0, KEY1
KEY0, KEY1 = (int.from_bytes(os.urandom(8), "little") for _ in range(2))


cdef Defrag* defrag_new(Conntrack* conntrack, uint32_t held_max) noexcept nogil:
    """An empty table that holds at most held_max packets (1/8 of the queue's length).  NULL: no memory."""
    cdef Defrag* d = <Defrag*>calloc(1, sizeof(Defrag))
    if d == NULL:
        return NULL
    d.buckets = <Datagram**>calloc(BUCKETS, sizeof(Datagram*))
    d.source_bytes = <uint32_t*>calloc(SOURCES, sizeof(uint32_t))
    d.source_rank = <uint32_t*>calloc(SOURCES, sizeof(uint32_t))
    if d.buckets == NULL or d.source_bytes == NULL or d.source_rank == NULL:
        defrag_free(d)
        return NULL
    d.key0 = KEY0
    d.key1 = KEY1
    d.conntrack = conntrack
    d.held_max = held_max
    d.bytes_max = BYTES_MAX
    d.source_max = BYTES_MAX // 4
    return d


cdef void defrag_free(Defrag* d) noexcept nogil:
    """Free everything; packets still held are forgotten (their queue is closing)."""
    cdef Datagram* q
    while d.oldest != NULL:
        unlink(d, d.oldest)
    defrag_bury(d)
    free(d.buckets)
    free(d.source_bytes)
    free(d.source_rank)
    free(d)


# ---- the table --------------------------------------------------------------------------------------------------------

cdef uint64_t address_word(const uint8_t* address, uint8_t family) noexcept nogil:
    cdef uint64_t a = 0, b = 0
    if family == IPV4:
        memcpy(&a, address, 4)
        return a
    memcpy(&a, address, 8)
    memcpy(&b, address + 8, 8)
    return mix64(a + 1) ^ b


cdef void key_of(Defrag* d, const Packet* p, Datagram* key) noexcept nogil:
    """What names a datagram: addresses, id, hook; IPv4 protocol; IPv6 device of multicast and link-local."""
    cdef uint32_t n = 4 if p.family == IPV4 else 16
    cdef uint64_t s = address_word(source(p), p.family), t = address_word(destination(p), p.family)
    memset(key, 0, sizeof(Datagram))
    memcpy(key.src, source(p), n)
    memcpy(key.dst, destination(p), n)
    key.id = p.frag_id
    key.family = p.family
    key.hook = p.hook
    if p.family == IPV4:
        key.proto = p.proto
    elif key.dst[0] == 0xff or (key.dst[0] == 0xfe and (key.dst[1] & 0xc0) == 0x80):
        key.ifindex = p.ifin
    key.hash = mix64(mix64(mix64(s ^ d.key0) ^ t ^ d.key1) ^ (<uint64_t>p.frag_id << 16) ^ key.proto ^ (<uint64_t>p.hook << 8))
    key.source = <uint32_t>(mix64(s ^ d.key1) & (SOURCES - 1))


cdef Datagram* find(Defrag* d, const Datagram* key) noexcept nogil:
    cdef Datagram* q = d.buckets[key.hash & (BUCKETS - 1)]
    while q != NULL:
        if (q.hash == key.hash and q.id == key.id and q.family == key.family and q.proto == key.proto and q.hook == key.hook
                and q.ifindex == key.ifindex and memcmp(q.src, key.src, 32) == 0):
            return q
        q = q.chain
    return NULL


cdef Datagram* insert(Defrag* d, const Datagram* key, uint64_t now) noexcept nogil:
    cdef Datagram* q = <Datagram*>malloc(sizeof(Datagram))
    cdef uint32_t bucket = key.hash & (BUCKETS - 1)
    if q == NULL:
        return NULL
    memcpy(q, key, sizeof(Datagram))
    q.expires = now + (TIMEOUT4 if q.family == IPV4 else d.conntrack.tunable[T_FRAG6_TIMEOUT] * SECOND_NS)
    q.rank = d.source_rank[q.source]
    q.chain = d.buckets[bucket]
    d.buckets[bucket] = q
    q.older = d.newest
    if d.newest != NULL:
        d.newest.newer = q
    else:
        d.oldest = q
    d.newest = q
    d.datagrams += 1
    return q


cdef void unlink(Defrag* d, Datagram* q) noexcept nogil:
    """Out of the table, into the grave: its bytes stay readable until defrag_bury."""
    cdef Datagram** at = &d.buckets[q.hash & (BUCKETS - 1)]
    cdef Fragment* f = q.first
    while at[0] != q:
        at = &at[0].chain
    at[0] = q.chain
    if q.older != NULL:
        q.older.newer = q.newer
    else:
        d.oldest = q.newer
    if q.newer != NULL:
        q.newer.older = q.older
    else:
        d.newest = q.older
    d.datagrams -= 1
    d.held -= q.n
    d.bytes -= q.bytes
    d.source_bytes[q.source] -= q.bytes
    q.chain = d.grave
    d.grave = q
    while f != NULL:
        if f.facts.conn:
            conntrack_release(d.conntrack, f.facts.conn)
            f.facts.conn = 0
        f = f.next


cdef void defrag_bury(Defrag* d) noexcept nogil:
    """Free what was released: called when the transport has sent it, before the next batch."""
    cdef Datagram* q
    cdef Fragment* f
    while d.grave != NULL:
        q = d.grave
        d.grave = q.chain
        while q.first != NULL:
            f = q.first
            q.first = f.next
            free(f)
        free(q.whole)
        free(q)


cdef void release_drop(Defrag* d, Datagram* q, uint8_t reason, Outbox* box, uint32_t at) noexcept nogil:
    """End a datagram: every fragment held is dropped for this reason."""
    cdef Fragment* f = q.first
    cdef Released* r
    while f != NULL:
        r = new_release(box)
        if r == NULL:                       # cannot be: held_max <= RELEASED_MAX
            break
        r.id = f.id
        r.queue = f.queue
        r.verdict = DROP
        r.reason = reason
        r.at = at
        d.drops[reason & 31] += 1
        f = f.next
    d.failed += 1
    unlink(d, q)


# ---- one fragment -----------------------------------------------------------------------------------------------------

cdef Fragment* copy_fragment(const Packet* p, uint32_t header, uint32_t start, uint32_t end) noexcept nogil:
    cdef uint32_t n = header + end - start
    cdef Fragment* f = <Fragment*>malloc(sizeof(Fragment) + n + GROWTH)
    if f == NULL:
        return NULL
    memset(f, 0, sizeof(Fragment))
    f.start = start
    f.end = end
    f.header = header
    f.len = n
    f.id = p.id
    f.mark = p.mark
    f.priority = p.priority
    f.queue = p.queue
    f.trimmed = n != p.total
    memcpy(&f.facts, p, sizeof(Packet))
    memcpy(bytes_of(f), p.data, n)
    f.facts.data = bytes_of(f)
    f.facts.len = n
    f.facts.total = n
    return f


cdef inline uint8_t* bytes_of(Fragment* f) noexcept nogil:
    return <uint8_t*>f + sizeof(Fragment)


cdef bint place(Datagram* q, uint32_t start, uint32_t end, Fragment*** at) noexcept nogil:
    """Where a piece goes.  True and *at = the link to put it in; False: *at NULL = duplicate, else overlap."""
    cdef Fragment** link = &q.first
    cdef uint32_t run_start, run_end
    cdef Fragment* f
    while link[0] != NULL and link[0].end <= start:
        link = &link[0].next
    at[0] = link
    if link[0] == NULL or link[0].start >= end:
        return True
    run_start = run_end = 0xffffffff        # it touches something: is it inside one contiguous run?
    f = q.first
    while f != NULL:
        if run_end != f.start:
            run_start = f.start
        run_end = f.end
        while f.next != NULL and f.next.start == run_end:
            f = f.next
            run_end = f.end
        if run_start <= start and end <= run_end:
            at[0] = NULL
            return False
        f = f.next
    return False


cdef inline uint32_t ending(Defrag* d, Datagram* q, uint32_t reason, Outbox* box, uint32_t at) noexcept nogil:
    release_drop(d, q, <uint8_t>reason, box, at)
    return FRAG_DROP | reason


cdef uint32_t check_end(Defrag* d, Datagram* q, const Packet* p, uint32_t start, uint32_t* end, Outbox* box,
                        uint32_t at) noexcept nogil:
    """Rules about the end of the datagram; may cut `end` to a multiple of 8.  FRAG_HELD = fine."""
    cdef bint v4 = p.family == IPV4
    if not p.frag_more:
        if end[0] < q.total or (q.last_in and end[0] != q.total):
            return ending(d, q, REASON_FRAG_BAD, box, at) if v4 else FRAG_DROP | REASON_FRAG_BAD
        q.last_in = 1
        q.total = end[0]
    else:
        if end[0] & 7:
            if not v4:                      # the kernel passes such a piece on untouched and forgets the others
                release_drop(d, q, REASON_FRAG_BAD, box, at)
                return FRAG_PASS
            end[0] &= ~<uint32_t>7
        if end[0] > q.total:
            if q.last_in:
                return ending(d, q, REASON_FRAG_BAD, box, at) if v4 else FRAG_DROP | REASON_FRAG_BAD
            q.total = end[0]
    if end[0] <= start:
        return ending(d, q, REASON_FRAG_BAD, box, at) if v4 else FRAG_DROP | REASON_FRAG_BAD
    return FRAG_HELD


cdef bint first_is_whole(const Packet* p) noexcept nogil:
    """IPv6: the first fragment holds its transport header (RFC 7112); else the kernel passes it on as it is."""
    cdef uint32_t need = 0
    if p.flags & LATER_FRAGMENT:
        return True
    if p.proto == 6:
        need = 20
    elif p.proto == 17 or p.proto == 136 or p.proto == 58:
        need = 8 if p.proto != 58 else 1
    elif p.proto in (0, 43, 60, 51):
        return False
    return p.thoff + need <= p.len


cdef bint make_room(Defrag* d, Datagram* q, const Datagram* key, uint32_t n, Outbox* box, uint32_t at) noexcept nogil:
    """Room for one more fragment of n bytes.  False: it is dropped.

    A source over its share, and a datagram of too many pieces, are refused.  When the table is full the oldest datagrams
    go: what is honest is complete within moments, so a flood from many sources mostly pushes out itself.
    """
    cdef uint32_t cost = n + OVERHEAD
    cdef Datagram* oldest
    if (q != NULL and q.n >= PER_DATAGRAM) or d.source_bytes[key.source] + cost > d.source_max:
        return False
    while d.held >= d.held_max or d.bytes + cost > d.bytes_max:
        oldest = d.oldest if d.oldest != q else q.newer
        if oldest == NULL or box.n_released > RELEASED_MAX - 4 * PER_DATAGRAM:
            return False
        release_drop(d, oldest, REASON_FRAG_LIMIT, box, at)
    return True


cdef uint32_t defrag_add(Defrag* d, Packet* p, uint64_t now, Packet* whole, Datagram** complete, Outbox* box,
                         uint32_t at) noexcept nogil:
    """One fragment.  FragOutcome; with FRAG_WHOLE, `whole` is the datagram as the rules shall see it.

    Fragments that this one ends (overlap, wrong end) are released with DROP into `box` before packet `at` of the batch.
    """
    cdef Datagram key
    cdef Datagram* q
    cdef uint32_t header = p.thoff if p.family == IPV4 or p.flags & LATER_FRAGMENT else p.frag_hdr + 8
    cdef uint32_t start = <uint32_t>p.fragoff * 8, end, outcome
    cdef Fragment** link
    cdef Fragment* f
    if p.flags & TRUNCATED:
        return FRAG_DROP | REASON_TRUNCATED
    if p.family != IPV4 and not first_is_whole(p):
        return FRAG_PASS
    end = start + p.total - header
    key_of(d, p, &key)
    q = find(d, &key)
    if q != NULL and q.expires <= now:
        release_drop(d, q, REASON_FRAG_TIMEOUT, box, at)
        d.timed_out += 1
        q = NULL
    if not make_room(d, q, &key, p.total, box, at):
        return FRAG_DROP | REASON_FRAG_LIMIT
    d.source_rank[key.source] += 1
    if q != NULL and p.family == IPV4 and d.source_rank[key.source] - q.rank > MAX_DISTANCE:
        release_drop(d, q, REASON_FRAG_TIMEOUT, box, at)
        q = NULL
    if q == NULL:
        q = insert(d, &key, now)
        if q == NULL:
            return FRAG_DROP | REASON_FRAG_LIMIT
    q.rank = d.source_rank[key.source]
    outcome = FRAG_DROP | REASON_FRAG_BAD
    if p.family == IPV4 or end <= MAX_LENGTH:
        outcome = check_end(d, q, p, start, &end, box, at)
    if outcome != FRAG_HELD:
        if outcome != FRAG_PASS and find(d, &key) == q and q.n == 0:
            unlink(d, q)                    # nothing is held: an empty datagram must not take room
        return outcome
    if not place(q, start, end, &link):
        if link == NULL:
            return FRAG_DROP                # a duplicate: dropped without a reason of ours, as the kernel swallows it
        return ending(d, q, REASON_FRAG_OVERLAP, box, at)
    f = copy_fragment(p, header, start, end)
    if f == NULL:
        return FRAG_DROP | REASON_FRAG_LIMIT
    f.next = link[0]
    link[0] = f
    account(d, q, p, f)
    if not q.last_in or q.meat != q.total or q.first.start != 0:
        return FRAG_HELD
    return assemble(d, q, whole, complete, box, at)


cdef void account(Defrag* d, Datagram* q, const Packet* p, const Fragment* f) noexcept nogil:
    q.n += 1
    q.meat += f.end - f.start
    q.bytes += p.total + OVERHEAD
    d.bytes += p.total + OVERHEAD
    d.source_bytes[q.source] += p.total + OVERHEAD
    d.held += 1
    q.ecn |= <uint8_t>(1 << (p.tos & 3))
    if f.len > q.size_max:
        q.size_max = <uint16_t>f.len
    if p.family == IPV4 and p.data[6] & 0x40 and f.len > q.df_max:
        q.df_max = <uint16_t>f.len


# ---- the datagram -----------------------------------------------------------------------------------------------------

cdef uint32_t assemble(Defrag* d, Datagram* q, Packet* whole, Datagram** complete, Outbox* box, uint32_t at) noexcept nogil:
    """All pieces are there: build the datagram in memory of its own and parse it."""
    cdef Fragment* f = q.first
    cdef Fragment* head = q.first
    cdef uint32_t header = head.header if q.family == IPV4 else head.header - 8, n
    cdef uint8_t ecn = ECN[q.ecn & 15]
    cdef uint8_t* h
    n = header + q.total
    if n > (MAX_LENGTH if q.family == IPV4 else MAX_LENGTH + 40):
        return ending(d, q, REASON_FRAG_BAD, box, at)
    if ecn == 0xff:
        return ending(d, q, REASON_FRAG_ECN, box, at)
    h = <uint8_t*>malloc(n + HEADER_ROOM)
    if h == NULL:
        return ending(d, q, REASON_FRAG_LIMIT, box, at)
    q.whole = h
    memcpy(h, bytes_of(head), header)
    while f != NULL:
        memcpy(h + header + f.start, bytes_of(f) + f.header, f.end - f.start)
        f = f.next
    if q.family == IPV4:
        put16(h + 2, n)
        put16(h + 6, 0x4000 if q.df_max == q.size_max else 0)
        h[1] |= ecn
        put16(h + 10, 0)
        put16(h + 10, fold(sum_bytes(h, header, 0)))
    else:
        put16(h + 4, n - 40)
        h[1] |= ecn << 4
        unlink_header(h, bytes_of(head), head.header - 8)
    memcpy(whole, &head.facts, sizeof(Packet))
    whole.data = h
    whole.len = whole.total = n
    whole.capacity = n + HEADER_ROOM
    parse(whole)
    complete[0] = q
    d.reassembled += 1
    return FRAG_WHOLE


cdef void unlink_header(uint8_t* h, const uint8_t* original, uint32_t frag_hdr) noexcept nogil:
    """Take the IPv6 fragment header out of the chain: the header before it names what it named."""
    cdef uint32_t at = 40, before = 6
    cdef uint8_t kind = original[6]
    while at < frag_hdr:
        before = at
        at += ((<uint32_t>original[at + 1] + 2) << 2) if kind == 51 else ((<uint32_t>original[at + 1] + 1) << 3)
        kind = original[before]
    h[before] = original[frag_hdr]


cdef void scatter(const Datagram* q, Fragment* f, const Packet* whole, Released* r) noexcept nogil:
    """Write the header and data of the judged datagram back into a fragment; DIRTY_PAYLOAD only if a byte changed.

    MF goes by the place in the datagram: a duplicate may have told the end, and the piece that stayed said more follows.
    The last fragment takes what the datagram has become longer or shorter by.
    """
    cdef uint8_t* h = bytes_of(f)
    cdef uint8_t* more = h + (6 if q.family == IPV4 else f.header - 5)
    cdef uint8_t bit = 0x20 if q.family == IPV4 else 1
    cdef uint32_t header = q.first.header - (0 if q.family == IPV4 else 8)
    cdef uint8_t kind = 0 if q.family == IPV4 else bytes_of(q.first)[header]
    cdef uint32_t end = whole.l3_len - header if f.next == NULL or whole.l3_len - header < f.end else f.end
    cdef uint32_t size = end - f.start if end > f.start else 0
    cdef bint changed = f.trimmed or size != f.end - f.start
    if size > f.end - f.start + GROWTH:
        r.verdict = DROP
        r.reason = REASON_REWRITE
        return
    f.len = f.facts.len = f.facts.total = f.header + size
    if ((more[0] & bit) != 0) != (f.next != NULL):
        more[0] ^= bit
        changed = True
    if q.family == IPV4:
        if memcmp(h + 12, whole.data + 12, 8) != 0 or h[1] != whole.data[1] or h[8] != whole.data[8] or h[6] & 0x40:
            memcpy(h + 12, whole.data + 12, 8)
            h[1] = whole.data[1]
            h[8] = whole.data[8]
            h[6] &= 0xbf                    # DF is cleared on the fragments of a reassembled datagram
            changed = True
        if changed:
            put16(h + 2, f.len)
            put16(h + 10, 0)
            put16(h + 10, fold(sum_bytes(h, f.header, 0)))
    elif changed or h[f.header - 8] != kind or memcmp(h, whole.data, 4) != 0 or memcmp(h + 7, whole.data + 7, 33) != 0:
        memcpy(h, whole.data, 4)
        put16(h + 4, f.len - 40)
        memcpy(h + 7, whole.data + 7, 33)
        h[f.header - 8] = kind              # what the first says counts (RFC 8200 4.5)
        changed = True
    if size != f.end - f.start or memcmp(h + f.header, whole.data + header + f.start, size) != 0:
        memcpy(h + f.header, whole.data + header + f.start, size)
        changed = True
    if changed:
        r.dirty |= DIRTY_PAYLOAD
    r.data = h
    r.len = f.len


cdef bint leaves_whole(const Datagram* q, const Packet* whole) noexcept nogil:
    """IPv6: a datagram no longer than its longest fragment goes on without fragment headers, as the kernel sends it: an
    atomic fragment (RFC 6946), or one whose other fragments hold no more than the 8 bytes of that header."""
    return q.family != IPV4 and whole.len <= q.size_max


cdef void release_whole(const Datagram* q, const Fragment* f, const Packet* whole, Released* r) noexcept nogil:
    """The first fragment becomes the datagram, the others end here."""
    if f.start != 0:
        r.verdict = DROP
        return
    r.data = whole.data
    r.len = whole.len
    r.dirty |= DIRTY_PAYLOAD


cdef void defrag_release(Defrag* d, Datagram* q, const Packet* whole, Outbox* box, uint32_t at) noexcept nogil:
    """Give every fragment of a judged datagram the verdict, mark, priority and bytes of the whole, in offset order."""
    cdef Fragment* f = q.first
    cdef Released* r
    while f != NULL:
        r = new_release(box)
        if r == NULL:
            break
        r.id = f.id
        r.queue = f.queue
        r.at = at
        r.verdict = whole.verdict
        r.reason = whole.reason
        if whole.verdict != DROP:
            r.mark = whole.mark
            r.priority = whole.priority
            if whole.mark != f.mark:
                r.dirty |= DIRTY_MARK
            if whole.priority != f.priority:
                r.dirty |= DIRTY_PRIORITY
            if leaves_whole(q, whole):
                release_whole(q, f, whole, r)
            else:
                scatter(q, f, whole, r)
        f = f.next
    unlink(d, q)


cdef void defrag_expire(Defrag* d, uint64_t now, Outbox* box, uint32_t at) noexcept nogil:
    """Drop what has waited too long; the oldest first, so this stops at the first that has time left (IPv6 waits longer)."""
    cdef Datagram* q = d.oldest
    cdef Datagram* newer
    cdef uint32_t looked = 0
    while q != NULL and looked < 64 and box.n_released < RELEASED_MAX // 2:     # the other half is for this batch
        newer = q.newer
        if q.expires <= now:
            release_drop(d, q, REASON_FRAG_TIMEOUT, box, at)
            d.timed_out += 1
        q = newer
        looked += 1
