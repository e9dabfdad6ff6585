"""In-flight records: how a packet is known again at its next crossing.  Header-only.

Overview.  NFQUEUE gives a packet no name between hooks.  But when send() of a verdict returns, the packet already waits at
its next crossing, in verdict order (docs/queues.md): so before the send we write down what we know of it and what it
looks like, and the next crossing takes the oldest record that fits.

Life-cycle.  `inflight_write` when a packet leaves a crossing and will cross again; `inflight_take` at the next crossing;
what is left when the queue sockets have been read empty was refused by the kernel in between: `inflight_refused`.

Replies of our own (REJECT) leave by a raw socket: the kernel may fill in their source and id, so these are left out of
their key.  One table for all queue threads of a firewall; bounded: when it is full the packet is dropped (it could not be
followed).

Several threads.  A packet may come to another queue at its next hook, so records are in stripes with a lock each; a table
of one thread takes none.  Two things need the threads' progress (`Progress`):

- Order.  Verdicts of two threads have no order.  Where two records look alike but mean different connections, the second
  is written only when the first one's batch has been sent (`inflight_write` answers with whom to wait for).
- Refusals.  Generations: a thread takes note of the current one between two batches, and has drained it when its socket was
  read empty after that, or when it has since judged as many packets as a queue holds.  When all have, the next one begins.
  A record of generation g was sent before g + 2 began (its writer had noted g + 1), and is nowhere if all have drained g + 2.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from nfqfw._atomic cimport add32, load32, load64, lock, prefetch, store32, store64, unlock
from nfqfw._packet cimport HAS_L4, IPV4, Packet, be16


cdef enum:
    INFLIGHT_MAX = 131072       # limits.INFLIGHT_MAX: records of one queue's table
    QUEUE_HOLDS = 65536         # limits.QUEUE_LENGTH + 1: more records for each further queue
    INFLIGHT_BUCKETS = 65536
    INFLIGHT_THREADS = 64       # limits.QUEUES_MAX
    STRIPES = 64
    GENERATION_NS = 1000000     # a generation lasts at least so long: ending one looks at every stripe
    CHUNK = 64                  # records that a stripe takes from the pool, or gives back, at once
    ALIKE_WALK = 64             # records of a bucket that are looked at for one that looks alike
    NO_RECORD = 0xffffffff
    PIECES = 4096
    PIECES_SECONDS = 30         # ipfrag_time


cdef enum Own:                  # InFlight.own
    NOT_OWN = 0
    OWN_UNSENT = 1              # a reply of ours that has not left yet: another key
    OWN_SENT = 2


cdef struct InFlight:           # 64 bytes
    uint64_t key
    uint64_t check              # second half of the key
    uint32_t conn               # a reference is held on an unconfirmed one
    uint32_t life               # Packet.life
    uint32_t secmark
    uint32_t serial
    uint8_t ctinfo
    uint8_t done                # hooks already run, one bit each
    uint8_t own                 # Own: is it a reply of ours?
    uint8_t traced_zone_dir     # Packet.trace, and Packet.zone_dir above that bit
    uint16_t zone
    uint8_t writer              # thread
    uint8_t ttl                 # as the packet leaves
    uint32_t mark
    uint32_t batch              # of the writer
    uint32_t generation
    uint32_t bucket_next        # next of the same bucket, in the order written; of the free ones
    uint32_t older              # neighbours in the order written, within the stripe
    uint32_t newer


cdef struct Stripe:             # 64 bytes, a cache line: what belongs to the buckets of one lock
    uint32_t lock
    uint32_t oldest
    uint32_t newest
    uint32_t free_list
    uint32_t n_free
    uint32_t count
    uint32_t pad[10]


cdef struct Progress:           # 64 bytes, a cache line: written by its thread, read by all
    uint32_t sent               # its batches up to this one have been sent
    uint32_t noticed            # generation its records bear; its own
    uint32_t drained            # newest generation that it noted before its socket was read empty
    uint32_t judged             # packets since it noted the generation; its own
    uint32_t batch              # the one it is at; its own
    uint32_t pad[11]


cdef struct Pieces:             # an IPv4 datagram whose fragments crossed PREROUTING one by one: the kernel merges them before INPUT
    uint64_t key
    uint64_t until              # CLOCK_MONOTONIC ns: the kernel's own time for reassembly


cdef struct InFlightTable:
    InFlight* records           # each in a cache line
    void* memory                # what they lie in
    uint32_t capacity
    uint32_t threads
    uint32_t count              # one thread: records; several: 0 = none was ever written
    uint32_t own_count          # records of replies of our own
    uint32_t pool_lock          # of the two below
    uint32_t pool               # free records that belong to no stripe
    uint32_t high               # records beyond it were never used: the table's pages are touched as it grows
    uint32_t generation
    uint64_t begun_ns           # when it began
    Progress progress[64]
    Stripe stripes[64]
    uint32_t head[65536]        # first (oldest) of each bucket, NO_RECORD = none
    uint32_t tail[65536]
    Pieces pieces[4096]         # outlive the records, which end when the sockets are read empty; a newer one takes an older one's place


cdef inline uint64_t mix64(uint64_t x) noexcept nogil:
    x ^= x >> 32
    x *= <uint64_t>0xd6e8feb86659fd93
    x ^= x >> 32
    x *= <uint64_t>0xd6e8feb86659fd93
    return x ^ (x >> 32)


cdef inline InFlightTable* inflight_new(uint32_t threads) noexcept nogil:
    """An empty table for so many queue threads (1 .. INFLIGHT_THREADS).  NULL: no memory."""
    cdef InFlightTable* t = <InFlightTable*>calloc(1, sizeof(InFlightTable))
    cdef uint32_t i
    if t == NULL:
        return NULL
    t.threads = threads
    t.capacity = INFLIGHT_MAX + (threads - 1) * QUEUE_HOLDS
    t.memory = calloc(t.capacity + 1, sizeof(InFlight))
    if t.memory == NULL:
        free(t)
        return NULL
    t.records = <InFlight*>((<size_t>t.memory + 63) & ~<size_t>63)
    memset(t.head, 0xff, sizeof(t.head))
    memset(t.tail, 0xff, sizeof(t.tail))
    t.pool = NO_RECORD
    for i in range(STRIPES):
        t.stripes[i].oldest = t.stripes[i].newest = t.stripes[i].free_list = NO_RECORD
    for i in range(threads):
        t.progress[i].batch = 1
    return t


cdef inline void inflight_free(InFlightTable* t) noexcept nogil:
    if t != NULL:
        free(t.memory)
        free(t)


# ---- what a packet looks like -----------------------------------------------------------------------------------------

cdef inline void inflight_key(const uint8_t* h, uint32_t n, uint8_t family, uint32_t thoff, uint8_t proto, bint own,
                              uint64_t* key, uint64_t* check) noexcept nogil:
    """What a packet looks like between two hooks: addresses, protocol, first bytes of the transport, IPv4 id, length.

    TTL, TOS, mark and UDP checksum are left out: they may change on the way (find_record).  `own`: source and IPv4 id as well.
    """
    cdef uint64_t a = 0, b = 0, word = 0
    cdef uint32_t take = 4 if proto == 17 or proto == 136 else 8
    if family == IPV4 and not own and be16(h + 6) & 0x3fff:
        inflight_piece_key(h, proto, key, check)
        return
    if family == IPV4:
        memcpy(&a, h + 12, 8)
        b = <uint64_t>be16(h + 4) | (<uint64_t>be16(h + 2) << 16)
        if own:
            a = a >> 32
            b = 0
    else:
        memcpy(&a, h + 24, 8)
        memcpy(&word, h + 32, 8)
        a ^= mix64(word + 1)
        if not own:
            memcpy(&word, h + 8, 8)
            a ^= mix64(word + 2)
            memcpy(&word, h + 16, 8)
            a ^= mix64(word + 3)
        b = <uint64_t>be16(h + 4) << 16
    word = 0
    if thoff and thoff + take <= n:
        memcpy(&word, h + thoff, take)
        if own and family != IPV4 and proto == 58:      # the checksum covers a source that is not in the key
            word &= 0xffff
    key[0] = mix64(a ^ mix64(b ^ (<uint64_t>proto << 56)) ^ word)
    check[0] = a + mix64(word ^ b) + proto


cdef inline void inflight_piece_key(const uint8_t* h, uint8_t proto, uint64_t* key, uint64_t* check) noexcept nogil:
    """Key of an IPv4 fragment: what all pieces of a datagram have in common, and the datagram that the kernel merges.

    At INPUT the kernel shows the merged datagram, which has none of its pieces' lengths; and of pieces of one datagram the
    records say the same, so it does not matter which is taken for which.
    """
    cdef uint64_t ends = 0
    memcpy(&ends, h + 12, 8)
    key[0] = mix64(ends ^ mix64(((<uint64_t>proto << 56) | be16(h + 4)) + 5))
    check[0] = ends + mix64(be16(h + 4)) + 5


# ---- the records ------------------------------------------------------------------------------------------------------

cdef inline uint32_t bucket_of(uint64_t key) noexcept nogil:
    return <uint32_t>(key & (INFLIGHT_BUCKETS - 1))


cdef inline Stripe* enter(InFlightTable* t, uint32_t bucket) noexcept nogil:
    """The bucket's stripe, its lock held."""
    cdef Stripe* s = &t.stripes[bucket & (STRIPES - 1)]
    if t.threads > 1:
        lock(&s.lock)
    return s


cdef inline void leave(InFlightTable* t, Stripe* s) noexcept nogil:
    if t.threads > 1:
        unlock(&s.lock)


cdef inline bint fill_stripe(InFlightTable* t, Stripe* s) noexcept nogil:
    """Free records from the pool for a stripe that has none.  False: there are no more."""
    cdef uint32_t i, n
    lock(&t.pool_lock)
    for n in range(CHUNK):
        i = t.pool
        if i != NO_RECORD:
            t.pool = t.records[i].bucket_next
        elif t.high < t.capacity:
            i = t.high
            t.high += 1
        else:
            break
        t.records[i].bucket_next = s.free_list
        s.free_list = i
        s.n_free += 1
    unlock(&t.pool_lock)
    return s.n_free != 0


cdef inline void empty_stripe(InFlightTable* t, Stripe* s) noexcept nogil:
    """Give a chunk of free records back to the pool."""
    cdef uint32_t i, n
    lock(&t.pool_lock)
    for n in range(CHUNK):
        i = s.free_list
        s.free_list = t.records[i].bucket_next
        t.records[i].bucket_next = t.pool
        t.pool = i
    unlock(&t.pool_lock)
    s.n_free -= CHUNK


cdef inline bint sent(const InFlightTable* t, const InFlight* r) noexcept nogil:
    """The batch in which this record was written has been sent."""
    return <int32_t>(load32(&t.progress[r.writer].sent) - r.batch) >= 0


cdef inline const InFlight* mistakable(const InFlightTable* t, uint32_t bucket, const InFlight* wanted) noexcept nogil:
    """A record that looks like `wanted` and means something else, of another thread that has not sent it yet; NULL: none."""
    cdef uint32_t i = t.tail[bucket], n
    cdef const InFlight* r
    if i != NO_RECORD and t.records[i].key != wanted.key:
        i = t.head[bucket]
    for n in range(ALIKE_WALK):
        if i == NO_RECORD:
            break
        r = &t.records[i]
        if r.key == wanted.key and r.check == wanted.check and r.own == wanted.own and r.writer != wanted.writer:
            if (r.conn != wanted.conn or r.done != wanted.done) and not sent(t, r):
                return r
        i = r.bucket_next
    return NULL


cdef inline bint inflight_write(InFlightTable* t, const InFlight* wanted, uint32_t* writer, uint32_t* batch) noexcept nogil:
    """Add a record (all fields up to `mark` are the caller's) at the end of the order.  False: not written.

    Not written with batch 0: the table is full.  Else: call again when thread `writer` has sent `batch`, or two packets
    that look alike might be taken for each other.  With writer NULL that is not asked.
    """
    cdef uint32_t bucket = bucket_of(wanted.key), i
    cdef Stripe* s = enter(t, bucket)
    cdef const InFlight* other = NULL
    cdef InFlight* r
    batch[0] = 0
    if t.threads > 1 and writer != NULL:
        other = mistakable(t, bucket, wanted)
    if other != NULL:
        writer[0] = other.writer
        batch[0] = other.batch
    if other != NULL or (s.free_list == NO_RECORD and not fill_stripe(t, s)):
        leave(t, s)
        return False
    i = s.free_list
    r = &t.records[i]
    s.free_list = r.bucket_next
    s.n_free -= 1
    memcpy(r, wanted, sizeof(InFlight))
    r.batch = t.progress[r.writer].batch
    r.generation = t.progress[r.writer].noticed
    r.bucket_next = NO_RECORD
    if t.tail[bucket] == NO_RECORD:
        store32(&t.head[bucket], i)
    else:
        t.records[t.tail[bucket]].bucket_next = i
    t.tail[bucket] = i
    r.older = s.newest
    r.newer = NO_RECORD
    if s.newest == NO_RECORD:
        s.oldest = i
    else:
        t.records[s.newest].newer = i
    s.newest = i
    store32(&s.count, s.count + 1)
    if t.threads == 1:
        t.count += 1
    elif load32(&t.count) == 0:
        store32(&t.count, 1)
    if r.own == OWN_UNSENT:
        add32(&t.own_count, 1)
    leave(t, s)
    return True


cdef inline void inflight_unlink(InFlightTable* t, Stripe* s, uint32_t i, uint32_t before) noexcept nogil:
    """Take record i out; `before` is its predecessor in the bucket, NO_RECORD if it is the first.  The stripe's lock is held."""
    cdef InFlight* r = &t.records[i]
    cdef uint32_t bucket = bucket_of(r.key)
    if before == NO_RECORD:
        store32(&t.head[bucket], r.bucket_next)
    else:
        t.records[before].bucket_next = r.bucket_next
    if t.tail[bucket] == i:
        t.tail[bucket] = before
    if r.older == NO_RECORD:
        s.oldest = r.newer
    else:
        t.records[r.older].newer = r.newer
    if r.newer == NO_RECORD:
        s.newest = r.older
    else:
        t.records[r.newer].older = r.older
    if r.own == OWN_UNSENT:
        add32(&t.own_count, 0xffffffff)
    r.bucket_next = s.free_list
    s.free_list = i
    s.n_free += 1
    store32(&s.count, s.count - 1)
    if t.threads == 1:
        t.count -= 1
    if s.n_free >= 2 * CHUNK:
        empty_stripe(t, s)


cdef inline uint32_t find_record(const InFlightTable* t, uint32_t first, uint64_t key, uint64_t check, bint own, uint8_t hook,
                                 const Packet* p, uint32_t* before) noexcept nogil:
    """The oldest record of a bucket's chain that fits, NO_RECORD: none; *before = its predecessor in the bucket.

    Of records that look alike the kernel refuses one packet and not the other for their hop count or mark (routing); so one
    whose hop count and mark are the packet's goes before an older one where they are not, within the first ALIKE_WALK.
    """
    cdef uint32_t i = first, previous = NO_RECORD, found = NO_RECORD, n = 0
    cdef const InFlight* r
    while i != NO_RECORD and (found == NO_RECORD or n < ALIKE_WALK):
        r = &t.records[i]
        n += 1
        if r.key == key and r.check == check and (r.own == OWN_UNSENT) == own and not (r.done >> hook) & 1:
            if own or (r.mark == p.mark and (r.ttl == p.ttl or r.ttl == p.ttl + 1)):
                before[0] = previous
                return i
            if found == NO_RECORD:
                before[0] = previous
                found = i
        previous = i
        i = r.bucket_next
    return found


cdef inline bint inflight_take(InFlightTable* t, uint64_t key, uint64_t check, bint own, uint8_t hook, const Packet* p,
                               InFlight* out) noexcept nogil:
    """Copy out and remove the record of packet p, which has this key and is at `hook`: it has not run that yet.  False: none fits."""
    cdef uint32_t bucket = bucket_of(key), i, before = NO_RECORD
    cdef Stripe* s
    if load32(&t.head[bucket]) == NO_RECORD:    # what was written before the send of the packet in hand is seen without the lock
        return False
    s = enter(t, bucket)
    i = find_record(t, t.head[bucket], key, check, own, hook, p, &before)
    if i != NO_RECORD:
        memcpy(out, &t.records[i], sizeof(InFlight))
        inflight_unlink(t, s, i, before)
    leave(t, s)
    return i != NO_RECORD


cdef inline void inflight_prefetch_bucket(const InFlightTable* t, uint64_t key) noexcept nogil:
    """First of two stages ahead of inflight_take for a batch."""
    prefetch(&t.head[bucket_of(key)])


cdef inline void inflight_prefetch_record(const InFlightTable* t, uint64_t key) noexcept nogil:
    cdef uint32_t i = load32(&t.head[bucket_of(key)])
    if i != NO_RECORD:
        prefetch(&t.records[i])


cdef inline uint32_t inflight_count(const InFlightTable* t) noexcept nogil:
    cdef uint32_t n = 0, i
    for i in range(STRIPES):
        n += load32(&t.stripes[i].count)
    return n


# ---- the threads' progress --------------------------------------------------------------------------------------------

cdef inline void progress_sent(InFlightTable* t, uint32_t thread) noexcept nogil:
    """All verdicts of this thread so far have been sent."""
    cdef Progress* p = &t.progress[thread]
    store32(&p.sent, p.batch)
    p.batch += 1


cdef inline bint progress_boundary(InFlightTable* t, uint32_t thread, uint32_t packets, bint empty) noexcept nogil:
    """This thread is between two batches and has sent all; it was given `packets`, which it has not judged yet.

    empty: it found its socket empty after that.  True: it has drained the generation that it had noted.
    """
    cdef Progress* p = &t.progress[thread]
    cdef uint32_t now = load32(&t.generation)
    progress_sent(t, thread)
    if p.judged > QUEUE_HOLDS:                  # queues are read in order: nothing that waited then is left
        empty = True
    if empty:
        store32(&p.drained, p.noticed)
    if p.noticed != now:
        p.noticed = now
        p.judged = 0
    p.judged += packets
    return empty


cdef inline bint next_generation(InFlightTable* t, uint64_t now_ns) noexcept nogil:
    """Begin the next generation if every thread has drained this one.  True: done; some packets may be known as refused."""
    cdef uint32_t i
    cdef bint all_drained = True
    if now_ns - load64(&t.begun_ns) < GENERATION_NS:
        return False
    lock(&t.pool_lock)
    for i in range(t.threads):
        if load32(&t.progress[i].drained) != t.generation:
            all_drained = False
    if all_drained:
        store64(&t.begun_ns, now_ns)
        store32(&t.generation, t.generation + 1)
    unlock(&t.pool_lock)
    return all_drained


cdef inline bint inflight_refused(InFlightTable* t, uint32_t stripe, bint everything, InFlight* out) noexcept nogil:
    """Copy out and remove a record of this stripe whose packet the kernel has refused.  False: none is left.

    everything: there is one thread, and it has read its socket empty after the last send.
    """
    cdef Stripe* s = &t.stripes[stripe]
    cdef uint32_t i, at, before = NO_RECORD
    if load32(&s.count) == 0:
        return False
    s = enter(t, stripe)
    i = s.oldest
    if i == NO_RECORD or (not everything and <int32_t>(load32(&t.generation) - t.records[i].generation) < 3):
        leave(t, s)
        return False
    at = t.head[bucket_of(t.records[i].key)]
    while at != i:
        before = at
        at = t.records[at].bucket_next
    memcpy(out, &t.records[i], sizeof(InFlight))
    inflight_unlink(t, s, i, before)
    leave(t, s)
    return True


# ---- fragments that the kernel merges ---------------------------------------------------------------------------------

cdef inline void pieces_note(InFlightTable* t, const Packet* p, uint64_t now) noexcept nogil:
    """A fragment of this IPv4 datagram has run PREROUTING by itself."""
    cdef uint64_t key, check
    cdef Stripe* s
    inflight_piece_key(p.data, p.proto, &key, &check)
    s = enter(t, bucket_of(key))
    t.pieces[key & (PIECES - 1)].key = key
    t.pieces[key & (PIECES - 1)].until = now + PIECES_SECONDS * <uint64_t>1000000000
    leave(t, s)


cdef inline bint pieces_seen(InFlightTable* t, const Packet* p, uint64_t now) noexcept nogil:
    """Whether fragments of this datagram have, within the kernel's time for reassembly."""
    cdef uint64_t key, check
    cdef Stripe* s
    cdef bint seen
    inflight_piece_key(p.data, p.proto, &key, &check)
    s = enter(t, bucket_of(key))
    seen = t.pieces[key & (PIECES - 1)].key == key and t.pieces[key & (PIECES - 1)].until > now
    leave(t, s)
    return seen
