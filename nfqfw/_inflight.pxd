"""In-flight records: how a packet is known again at its next crossing.  Header-only.

Overview.  NFQUEUE gives a packet no name between hooks.  But when send() of a verdict returns, the packet already waits at
its next crossing, in verdict order (spec/nfqueue.md): so before the send we write down what we know of it and what it
looks like, and the next crossing takes the oldest record that fits.

Life-cycle.  `inflight_write` when a packet leaves a crossing and will cross again; `inflight_take` at the next crossing;
what is left when the queue sockets have been read empty was refused by the kernel in between: the engine frees it.

Replies of our own (REJECT) leave by a raw socket: the kernel may fill in their source and id, so these are left out of
their key.  One table per engine; bounded: when it is full the packet is dropped (it could not be followed).
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from nfqfw._packet cimport HAS_L4, IPV4, Packet, be16


cdef enum:
    INFLIGHT_MAX = 131072       # limits.INFLIGHT_MAX
    INFLIGHT_BUCKETS = 65536
    NO_RECORD = 0xffffffff
    PIECES = 4096
    PIECES_SECONDS = 30         # ipfrag_time


cdef struct InFlight:           # 64 bytes
    uint64_t key
    uint64_t check              # second half of the key
    uint32_t conn               # a reference is held on an unconfirmed one
    uint32_t secmark
    uint32_t serial
    uint8_t ctinfo
    uint8_t done                # hooks already run, one bit each
    uint8_t trace
    uint8_t own                 # of a reply of ours that has not left yet: another key
    uint8_t made_here           # the packet is a reply of ours (Packet.own)
    uint8_t used
    uint16_t zone
    uint8_t zone_dir
    uint8_t pad[3]
    uint32_t bucket_next        # next of the same bucket, in the order written
    uint32_t older              # neighbours in the order written, over the whole table
    uint32_t newer


cdef struct Pieces:             # an IPv4 datagram whose fragments crossed PREROUTING one by one: the kernel merges them before INPUT
    uint64_t key
    uint64_t until              # CLOCK_MONOTONIC ns: the kernel's own time for reassembly


cdef struct InFlightTable:
    InFlight records[131072]
    uint32_t head[65536]        # first (oldest) of each bucket, NO_RECORD = none
    uint32_t tail[65536]
    uint32_t oldest
    uint32_t newest
    uint32_t free_list
    uint32_t high
    uint32_t count
    uint32_t own_count          # records of replies of our own
    Pieces pieces[4096]         # outlive the records, which end when the sockets are read empty; a newer one takes an older one's place


cdef inline uint64_t mix64(uint64_t x) noexcept nogil:
    x ^= x >> 32
    x *= <uint64_t>0xd6e8feb86659fd93
    x ^= x >> 32
    x *= <uint64_t>0xd6e8feb86659fd93
    return x ^ (x >> 32)


cdef inline void inflight_init(InFlightTable* t) noexcept nogil:
    memset(t.head, 0xff, sizeof(t.head))
    memset(t.tail, 0xff, sizeof(t.tail))
    t.high = 0                  # records beyond it were never used: the table's pages are touched as it grows
    t.free_list = NO_RECORD
    t.oldest = t.newest = NO_RECORD
    t.count = t.own_count = 0


cdef inline void inflight_key(const uint8_t* h, uint32_t n, uint8_t family, uint32_t thoff, uint8_t proto, bint own,
                              uint64_t* key, uint64_t* check) noexcept nogil:
    """What a packet looks like between two hooks: addresses, protocol, first bytes of the transport, IPv4 id, length.

    TTL, TOS, mark and UDP checksum are left out: they may change on the way.  `own`: source and IPv4 id as well.
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


cdef inline InFlight* inflight_write(InFlightTable* t, uint64_t key, uint64_t check) noexcept nogil:
    """A new record at the end of the order, to be filled; NULL = table full."""
    cdef uint32_t i = t.free_list, bucket = <uint32_t>(key & (INFLIGHT_BUCKETS - 1))
    cdef InFlight* r
    if i == NO_RECORD:
        if t.high >= INFLIGHT_MAX:
            return NULL
        i = t.high
        t.high += 1
        r = &t.records[i]
    else:
        r = &t.records[i]
        t.free_list = r.bucket_next
    r.key = key
    r.check = check
    r.used = 1
    r.own = 0
    r.bucket_next = NO_RECORD
    if t.tail[bucket] == NO_RECORD:
        t.head[bucket] = i
    else:
        t.records[t.tail[bucket]].bucket_next = i
    t.tail[bucket] = i
    r.older = t.newest
    r.newer = NO_RECORD
    if t.newest == NO_RECORD:
        t.oldest = i
    else:
        t.records[t.newest].newer = i
    t.newest = i
    t.count += 1
    return r


cdef inline void inflight_unlink(InFlightTable* t, uint32_t i, uint32_t before) noexcept nogil:
    """Take record i out; `before` is its predecessor in the bucket, NO_RECORD if it is the first."""
    cdef InFlight* r = &t.records[i]
    cdef uint32_t bucket = <uint32_t>(r.key & (INFLIGHT_BUCKETS - 1))
    if before == NO_RECORD:
        t.head[bucket] = r.bucket_next
    else:
        t.records[before].bucket_next = r.bucket_next
    if t.tail[bucket] == i:
        t.tail[bucket] = before
    if r.older == NO_RECORD:
        t.oldest = r.newer
    else:
        t.records[r.older].newer = r.newer
    if r.newer == NO_RECORD:
        t.newest = r.older
    else:
        t.records[r.newer].older = r.older
    if r.own:
        t.own_count -= 1
    r.used = 0
    r.bucket_next = t.free_list
    t.free_list = i
    t.count -= 1


cdef inline bint inflight_take(InFlightTable* t, uint64_t key, uint64_t check, bint own, uint8_t hook, InFlight* out) noexcept nogil:
    """Copy out and remove the oldest record with this key that has not run `hook` yet.  False: none fits."""
    cdef uint32_t bucket = <uint32_t>(key & (INFLIGHT_BUCKETS - 1))
    cdef uint32_t i = t.head[bucket], before = NO_RECORD
    cdef InFlight* r
    while i != NO_RECORD:
        r = &t.records[i]
        if r.key == key and r.check == check and r.own == own and not (r.done >> hook) & 1:
            memcpy(out, r, sizeof(InFlight))
            inflight_unlink(t, i, before)
            return True
        before = i
        i = r.bucket_next
    return False


cdef inline bint inflight_take_oldest(InFlightTable* t, InFlight* out) noexcept nogil:
    """Copy out and remove the oldest record of all; False: empty.  For the purge after the sockets were read empty."""
    cdef uint32_t i = t.oldest, at, before = NO_RECORD
    cdef uint32_t bucket
    if i == NO_RECORD:
        return False
    bucket = <uint32_t>(t.records[i].key & (INFLIGHT_BUCKETS - 1))
    at = t.head[bucket]
    while at != i:
        before = at
        at = t.records[at].bucket_next
    memcpy(out, &t.records[i], sizeof(InFlight))
    inflight_unlink(t, i, before)
    return True


cdef inline void pieces_note(InFlightTable* t, const Packet* p, uint64_t now) noexcept nogil:
    """A fragment of this IPv4 datagram has run PREROUTING by itself."""
    cdef uint64_t key, check
    inflight_piece_key(p.data, p.proto, &key, &check)
    t.pieces[key & (PIECES - 1)].key = key
    t.pieces[key & (PIECES - 1)].until = now + PIECES_SECONDS * <uint64_t>1000000000


cdef inline bint pieces_seen(const InFlightTable* t, const Packet* p, uint64_t now) noexcept nogil:
    """Whether fragments of this datagram have, within the kernel's time for reassembly."""
    cdef uint64_t key, check
    inflight_piece_key(p.data, p.proto, &key, &check)
    return t.pieces[key & (PIECES - 1)].key == key and t.pieces[key & (PIECES - 1)].until > now
