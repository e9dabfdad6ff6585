"""Connection tracking: the flow table, as queue threads and commands use it.

Overview.  A packet enters by `conntrack_in` (class, connection, tracker) and leaves its last hook by `conntrack_confirm`.
Between the two a new entry is unconfirmed: later packets of the same flow find it, lookups for anything else do not.

Life-cycle of an unconfirmed entry: `conntrack_in` counts the packet in `hold`; whoever drops that packet calls
`conntrack_release`, who confirms it need not.  `conntrack_hold` is for a second reason to keep it (a REJECT under way).

Locking.  Every entry and every bucket has a striped spin lock in process memory; a hit takes one (the entry's).  Order and
rules: `conntrack/life.pxd`.  `conntrack/index.pxd` says what a lookup without a lock may see.

Crash consistency.  `commit` is odd while tuples are written; `window.guard` is odd while a tracker writes; status and mark
are single words.  `attach` throws away what is odd or unconfirmed, makes odd windows liberal, and rebuilds the index.
"""

import errno
import time

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from nfqfw._atomic cimport add32, add64, and8, fence, load32, load64, lock, lowest, match10, or8, or32, prefetch, store32, store64, unlock
from nfqfw._conn cimport (ASSURED, CONFIRMED, CONN_ACCT, CONN_EVENT, CONN_HIDDEN, CONN_STAMPED, CONN_TIMEOUTS, CONN_TWO, DYING, EXPECTED,
                          FIXED_TIMEOUT, HELPER, ORIGINAL, REPLY, SEEN_REPLY, TELL_HELPER, TELL_NEW, TELL_PROTOINFO, TELL_RELATED,
                          TELL_REPLY, TICKS, ConnCold, ConnHot, Expect, Tuple, direction_of, is_expired, read_tuple, ticks)
from nfqfw._packet cimport (ACCEPT, CT_ESTABLISHED, CT_ESTABLISHED_REPLY, CT_INVALID, CT_NEW, CT_RELATED, CT_RELATED_REPLY, CT_UNTRACKED,
                            DROP, HAS_L4, IPV4, IS_FRAGMENT, OUTPUT, REASON_CHAIN_TOO_LONG, REASON_INSERT_FAILED, REASON_TABLE_FULL, Packet)
from nfqfw._parse cimport parse
from nfqfw._program cimport Context
from nfqfw.conntrack._entries cimport Dress, EntryTable, read_dress
from nfqfw.conntrack._expectations cimport fill_tuple
from nfqfw.conntrack.expect cimport expect_sweep, expect_take, fulfil
from nfqfw.conntrack.icmp_error cimport ICMP_ERROR, ICMP_PLAIN, ICMP_UNTRACKED, classify_icmp4, classify_icmp6, error_tuple, goes_to
from nfqfw.conntrack.index cimport (FIND_ANY, FIND_BOTH, FIND_NEW_ORIGINAL, FIND_NEW_REPLY, FIND_ORIGINAL, FIND_REPLY, bucket_lock,
                                    bucket_of, index_find, tag_of)
from nfqfw.conntrack.life cimport (collect, conn_lock, drop_hash, early_drop, emit, entry_alloc, entry_free, entry_hash, kill_expired,
                                   kill_locked, put_hash)
from nfqfw.conntrack.sctp cimport sctp_track, sctp_valid
from nfqfw.conntrack.simple cimport generic_track, gre_track, icmp_track, udp_track, udp_valid, udplite_track, udplite_valid
from nfqfw.conntrack.table cimport (EVENT_NEW, EVENT_UPDATE, LOCKS, S_CHAINTOOLONG, S_CLASH_RESOLVE, S_CREATED, S_DROP, S_ERROR,
                                    S_ICMP_ERROR, S_INSERT, S_INSERT_FAILED, S_INVALID, T_ACCT, T_MAX, T_TCP_CLOSE, T_TCP_SYN_SENT,
                                    T_TIMESTAMP, TRACK_ACCEPT, TRACK_INVALID, TRACK_KILL, Bucket, Conntrack)
from nfqfw.conntrack.tcp cimport TCP_CLOSE, tcp_track, tcp_valid
from nfqfw.conntrack.track cimport account, count, tell, timeouts
from nfqfw.conntrack.tuple cimport (PROTO_GRE, PROTO_SCTP, PROTO_TCP, PROTO_UDP, PROTO_UDPLITE, entry_has, hash_tuple, inverse, is_icmp,
                                    same_but_zone, tuple_from_packet, write_tuple)
from nfqfw.ext.t_CT cimport CtInfoBlock


cdef enum:
    TRIES = 4                   # a lookup that lost a race this often gives up: the packet is INVALID


cdef inline void note_time(Conntrack* t, uint64_t now_ns) noexcept nogil:
    """The newest time told; threads' batches began at different moments, and a word that all write for each packet costs each a miss.

    A clock that was set back (tests, replay) is believed when it is a second or more.
    """
    cdef uint64_t known = load64(&t.now_ns)
    if now_ns > known or known - now_ns >= 1000000000:
        store64(&t.now_ns, now_ns)


# ---- tuples ------------------------------------------------------------------------------------------------------------

cdef bint packet_tuple(const Packet* p, Tuple* out) noexcept nogil:
    """Tuple of a parsed packet, zone 0.  False: no transport header that could name one."""
    return tuple_from_packet(p, out)


cdef bint invert_tuple(const Tuple* tuple, Tuple* out) noexcept nogil:
    """Tuple of the answer.  False: nothing answers it."""
    return inverse(tuple, out)


cdef inline uint32_t find_zoned(Conntrack* t, Tuple* a, const uint16_t* zone, uint64_t hash, uint32_t now, uint32_t which,
                                uint32_t ignored, uint32_t* direction) noexcept nogil:
    """Entry whose original tuple has zone[0], or whose reply tuple has zone[1]; deletes an expired one it meets."""
    cdef uint32_t i, stale = 0
    a.zone = zone[0]
    if zone[0] == zone[1]:
        i = index_find(t, a, hash, now, which, ignored, direction, &stale)
    else:
        i = index_find(t, a, hash, now, which & (FIND_ORIGINAL | FIND_NEW_ORIGINAL), ignored, direction, &stale)
        if i == 0:
            a.zone = zone[1]
            i = index_find(t, a, hash_tuple(t.key, a), now, which & (FIND_REPLY | FIND_NEW_REPLY), ignored, direction, &stale)
            a.zone = zone[0]
    if stale:
        kill_expired(t, stale, now)
    return i


cdef inline void packet_zones(const Packet* p, uint16_t* zone) noexcept nogil:
    zone[0] = p.zone if p.zone_dir != 2 else 0
    zone[1] = p.zone if p.zone_dir != 1 else 0


# ---- making entries ----------------------------------------------------------------------------------------------------

cdef inline uint32_t refuse(Conntrack* t, Packet* p, uint8_t reason, uint32_t stat) noexcept nogil:
    p.verdict = DROP
    p.reason = reason
    count(t, stat)
    return 0


cdef uint32_t entry_make(Conntrack* t, Packet* p, const Tuple* a, const uint16_t* zone, uint64_t hash) noexcept nogil:
    """A new unconfirmed entry, indexed, its lock held; 0 = none: the packet is refused, or its tuple cannot be answered."""
    cdef Tuple reply
    cdef ConnHot* c
    cdef uint32_t i
    cdef bint indexed
    if not inverse(a, &reply):
        return 0
    if add32(&t.count, 1) > t.tunable[T_MAX] and t.tunable[T_MAX]:
        if not early_drop(t, hash):
            t.early_drop = 1
            add32(&t.count, 0xffffffffU)
            return refuse(t, p, REASON_TABLE_FULL, S_DROP)
    i = entry_alloc(t)
    if i == 0:
        add32(&t.count, 0xffffffffU)
        return refuse(t, p, REASON_TABLE_FULL, S_DROP)
    c = &t.table.hot[i]
    lock(conn_lock(t, i))
    store32(&c.commit, 1)
    fence()
    c.status = c.mark = c.expires = c.hold = 0
    c.family = a.family
    c.proto = a.proto
    c.state = 0
    c.flags = CONN_ACCT if t.tunable[T_ACCT] else 0
    c.cache[0] = c.cache[1] = 0
    reply.zone = zone[1]
    write_tuple(&t.table, i, ORIGINAL, a, hash)
    write_tuple(&t.table, i, REPLY, &reply, hash if zone[0] == zone[1] else hash_tuple(t.key, &reply))
    memset(&t.table.cold[i], 0, sizeof(t.table.cold[i]))
    t.table.cold[i].start_ns = t.now_ns
    if c.flags & CONN_ACCT:
        memset(&t.table.acct[i], 0, sizeof(t.table.acct[i]))
    c.id = <uint32_t>((hash ^ (hash >> 32)) * 0x9e3779b1U + i * 0x85ebca6bU + ticks(t.now_ns)) | 1
    fence()
    store32(&c.commit, 2)
    indexed = put_hash(t, hash, i)
    if indexed and zone[0] != zone[1]:
        c.flags |= CONN_TWO
        indexed = put_hash(t, entry_hash(t, i, REPLY), i)
    if not indexed:
        drop_hash(t, hash, i)
        entry_free(t, i)
        unlock(conn_lock(t, i))
        return refuse(t, p, REASON_CHAIN_TOO_LONG, S_CHAINTOOLONG)
    count(t, S_CREATED)
    return i


cdef inline void welcome(Conntrack* t, uint32_t i, const Tuple* a, uint16_t zone, uint32_t now) noexcept nogil:
    """Entry i is new and its lock held: make it RELATED if somebody expected it."""
    cdef Expect e
    if expect_take(t, a, zone, now, &e):
        fulfil(t, i, &e)


cdef inline void use_template(Conntrack* t, uint32_t i, const CtInfoBlock* ct) noexcept nogil:
    """What a CT rule said of a connection to come.  An expected one has the helper of its expectation, not of the rule."""
    cdef ConnCold* cold = &t.table.cold[i]
    cold.ctevents = ct.events
    cold.timeout_policy = t.policy_row[ct.timeouts]
    if cold.timeout_policy:
        t.table.hot[i].flags |= CONN_TIMEOUTS
    if ct.helper and not t.table.hot[i].status & EXPECTED:
        cold.helper = ct.helper
        cold.pending |= TELL_HELPER
        t.table.hot[i].status |= HELPER


cdef uint32_t find_or_make(Conntrack* t, Packet* p, Tuple* a, uint32_t now, uint32_t* direction, bint* fresh) noexcept nogil:
    """The packet's entry, its lock held; 0 = none (p.verdict says whether it was refused)."""
    cdef uint16_t zone[2]
    cdef uint64_t hash
    cdef uint32_t i, n
    cdef uint32_t which = FIND_BOTH | FIND_NEW_ORIGINAL
    packet_zones(p, zone)
    a.zone = zone[0]
    hash = p.flow_hash if p.flow_hash and zone[0] == 0 else hash_tuple(t.key, a)
    for n in range(TRIES):
        fresh[0] = False
        i = find_zoned(t, a, zone, hash, now, which, 0, direction)
        if i:
            lock(conn_lock(t, i))
            a.zone = zone[direction[0]]
            if zone[0] != zone[1]:
                hash = hash_tuple(t.key, a)
            if t.table.hot[i].commit and entry_has(&t.table, i, direction[0], a, hash) and not is_expired(&t.table.hot[i], now):
                return i
            unlock(conn_lock(t, i))
            continue
        direction[0] = ORIGINAL
        a.zone = zone[0]
        i = entry_make(t, p, a, zone, hash)
        if i and t.expect.count:
            welcome(t, i, a, p.zone, now)
        fresh[0] = True
        return i
    return 0


# ---- a packet ----------------------------------------------------------------------------------------------------------

cdef inline bint transport_valid(Conntrack* t, const Packet* p) noexcept nogil:
    """Could the bytes be what the protocol number says?"""
    if p.proto == PROTO_TCP:
        return tcp_valid(t, p)
    if p.proto == PROTO_UDP:
        return udp_valid(t, p)
    if p.proto == PROTO_UDPLITE:
        return udplite_valid(t, p)
    if p.proto == PROTO_SCTP:
        return sctp_valid(t, p)
    return True


cdef inline int track(Conntrack* t, const Packet* p, uint32_t i, uint32_t direction, bint fresh) noexcept nogil:
    """Let the protocol's tracker see the packet; the entry's lock is held."""
    if p.proto == PROTO_TCP:
        return tcp_track(t, p, i, direction, fresh)
    if p.proto == PROTO_UDP:
        return udp_track(t, p, i, direction, fresh)
    if is_icmp(p.proto, p.family):
        return icmp_track(t, p, i, direction, fresh)
    if p.proto == PROTO_UDPLITE:
        return udplite_track(t, p, i, direction)
    if p.proto == PROTO_SCTP:
        return sctp_track(t, p, i, direction, fresh)
    if p.proto == PROTO_GRE:
        return gre_track(t, p, i, direction, fresh)
    return generic_track(t, p, i, direction)


cdef inline uint8_t class_of(const ConnHot* c, uint32_t direction) noexcept nogil:
    """Class of a packet in this direction, from a table of eight: direction, SEEN_REPLY and EXPECTED are chance to the processor."""
    cdef uint32_t row = direction | (c.status & SEEN_REPLY) | ((c.status & EXPECTED) << 2)
    return ((CT_NEW | CT_ESTABLISHED_REPLY << 4 | CT_ESTABLISHED << 8 | CT_ESTABLISHED_REPLY << 12
             | CT_RELATED << 16 | CT_ESTABLISHED_REPLY << 20 | CT_ESTABLISHED << 24 | CT_ESTABLISHED_REPLY << 28) >> (4 * row)) & 15


cdef void related(Conntrack* t, Packet* p, Tuple* a, uint32_t now) noexcept nogil:
    """An ICMP error belongs to the connection of the packet that it quotes."""
    cdef uint16_t zone[2]
    cdef uint32_t direction = 0, i
    packet_zones(p, zone)
    a.zone = zone[0]
    i = find_zoned(t, a, zone, hash_tuple(t.key, a), now, FIND_ANY, 0, &direction)
    if i == 0 or not goes_to(p, a):
        count(t, S_ICMP_ERROR)
        count(t, S_INVALID)
        return
    lock(conn_lock(t, i))
    if t.table.hot[i].commit:
        p.conn = i
        p.ctinfo = CT_RELATED_REPLY if direction == REPLY else CT_RELATED
        if not t.table.hot[i].status & CONFIRMED:
            t.table.hot[i].hold += 1
    unlock(conn_lock(t, i))


cdef inline bint icmp_decided(Conntrack* t, Packet* p, uint32_t now) noexcept nogil:
    """True if ICMP alone has decided the packet's class: broken, an error, or one that is never tracked."""
    cdef Tuple a
    cdef uint32_t inner = 0
    cdef int kind = classify_icmp4(t, p, &inner) if p.family == IPV4 else classify_icmp6(t, p, &inner)
    if kind == ICMP_PLAIN:
        return False
    if kind == ICMP_UNTRACKED:
        p.ctinfo = CT_UNTRACKED
    elif kind == ICMP_ERROR and error_tuple(p, inner, &a):
        related(t, p, &a, now)
    else:
        count(t, S_ERROR)
        count(t, S_INVALID)
    return True


cdef void conntrack_in(Conntrack* t, Packet* p, uint64_t now_ns, Context* c) noexcept nogil:
    """Class and connection of a parsed packet, before any rule that may ask.

    Leaves alone what already has a connection or is UNTRACKED (second pass on lo).  Sets p.conn and p.ctinfo; drops
    (p.verdict, p.reason) only when the table is full or a hash chain too long.  An unconfirmed p.conn counts the packet.
    """
    cdef Tuple built
    cdef Tuple* a = &built
    cdef ConnHot* hot
    cdef uint32_t i, direction = 0, now, n
    cdef uint8_t ctinfo
    cdef bint fresh = False
    cdef int said
    if p.conn or p.ctinfo == CT_UNTRACKED:
        return
    p.ctinfo = CT_INVALID
    note_time(t, now_ns)
    now = ticks(now_ns)
    if not p.flags & HAS_L4:
        count(t, S_INVALID)
        return
    if p.family == IPV4 and p.hook == OUTPUT and p.flags & IS_FRAGMENT:
        return
    if is_icmp(p.proto, p.family) and icmp_decided(t, p, now):
        return
    if p.flow_hash:
        a = &p.tuple
    if not transport_valid(t, p) or (p.flow_hash == 0 and not tuple_from_packet(p, a)):
        count(t, S_INVALID)
        return
    for n in range(2):
        i = find_or_make(t, p, a, now, &direction, &fresh)
        if i == 0:
            return
        hot = &t.table.hot[i]
        if fresh and p.ct_template and c != NULL:
            use_template(t, i, <const CtInfoBlock*>(c.data + p.ct_template))
        ctinfo = class_of(hot, direction)
        said = track(t, p, i, direction, fresh)
        if said == TRACK_ACCEPT or said == TRACK_KILL:
            break
        if said == TRACK_INVALID:
            if fresh:
                kill_locked(t, i, 0)
            unlock(conn_lock(t, i))
            count(t, S_INVALID)
            return
        if hot.status & CONFIRMED:
            kill_locked(t, i, 0)                # finished: the next turn makes a new one
        unlock(conn_lock(t, i))
    else:
        count(t, S_INVALID)
        return
    p.conn = i
    p.life = hot.id
    p.ctinfo = ctinfo
    if not hot.status & SEEN_REPLY and ctinfo == CT_ESTABLISHED_REPLY:
        or32(&hot.status, SEEN_REPLY)
        tell(t, i, TELL_REPLY)
    if not hot.status & CONFIRMED:
        hot.hold += 1
        if said == TRACK_KILL:
            or32(&hot.status, DYING)                 # refused before it was confirmed: confirm will drop its first packet
    elif said == TRACK_KILL:
        account(t, p, i, direction)
        kill_locked(t, i, 0)
    unlock(conn_lock(t, i))


cdef uint64_t conntrack_path_numbers(Conntrack* t, uint32_t n) noexcept nogil:
    """The first of n numbers of paths (_paths.pxd) that were never given before; beyond 32 bits when none are left."""
    return add64(&t.path_numbers, n) - n + 1


cdef void conntrack_remember(Conntrack* t, uint32_t conn, uint32_t life, uint32_t direction, uint32_t path) noexcept nogil:
    """Write a path's number to a direction of a connection, if it is still the same one."""
    cdef ConnHot* hot = &t.table.hot[conn]
    lock(conn_lock(t, conn))
    if hot.commit and hot.id == life:
        store32(&hot.cache[direction], path)
    unlock(conn_lock(t, conn))


cdef void conntrack_prefetch_bucket(Conntrack* t, Packet* p) noexcept nogil:
    """First of two stages ahead of conntrack_in for a batch: hash, and ask for the bucket.  Sets p.flow_hash and p.tuple."""
    p.flow_hash = 0
    if not tuple_from_packet(p, &p.tuple):
        return
    p.flow_hash = hash_tuple(t.key, &p.tuple)
    prefetch(bucket_of(t.index, p.flow_hash))


cdef uint32_t conntrack_prefetch_entry(Conntrack* t, const Packet* p) noexcept nogil:
    """Second stage: ask for the entry's lines.  Its likely number, 0 = none."""
    cdef const Bucket* b
    cdef uint32_t mask, i = 0
    if p.flow_hash == 0:
        return 0
    b = bucket_of(t.index, p.flow_hash)
    mask = match10(b.tag, tag_of(p.flow_hash))
    if mask:
        i = b.conn[lowest(mask)]
        prefetch(&t.table.hot[i])
        if p.proto == PROTO_TCP:
            prefetch(&t.table.window[i])
    return i


cdef void conntrack_prefetch_more(Conntrack* t, const Packet* p, uint32_t i) noexcept nogil:
    """Third stage: what is only asked for where the entry says so.  A young answered UDP flow: when it becomes a stream."""
    if i and p.proto == PROTO_UDP and t.table.hot[i].status & (SEEN_REPLY | ASSURED) == SEEN_REPLY:
        prefetch(&t.table.cold[i].stream_ts)


# ---- the last hook -----------------------------------------------------------------------------------------------------

cdef inline bint may_clash(const ConnHot* c) noexcept nogil:
    """Protocols whose first packets may race each other: everything but TCP, SCTP, ICMP."""
    return c.proto != PROTO_TCP and c.proto != PROTO_SCTP and not is_icmp(c.proto, c.family)


cdef inline void merge_counters(Conntrack* t, uint32_t winner, uint32_t loser, bint swapped) noexcept nogil:
    cdef uint32_t d
    if t.table.hot[winner].flags & t.table.hot[loser].flags & CONN_ACCT:
        for d in range(2):
            t.table.acct[winner].packets[d ^ swapped] += t.table.acct[loser].packets[d]
            t.table.acct[winner].bytes[d ^ swapped] += t.table.acct[loser].bytes[d]


cdef int resolve_clash(Conntrack* t, Packet* p, uint32_t i, uint32_t other, uint32_t now, bint reply_taken) noexcept nogil:
    """Another entry was confirmed with one of our tuples.  spec/conntrack.md 1.8."""
    cdef Tuple mine[2]
    cdef Tuple theirs[2]
    cdef uint32_t d
    cdef bint equal, reversed_, zoned
    for d in range(2):
        read_tuple(&t.table, i, d, &mine[d])
        read_tuple(&t.table, other, d, &theirs[d])
    zoned = mine[0].zone == theirs[0].zone and mine[1].zone == theirs[1].zone
    equal = zoned and same_but_zone(&mine[0], &theirs[0]) and same_but_zone(&mine[1], &theirs[1])
    reversed_ = zoned and same_but_zone(&mine[0], &theirs[1]) and same_but_zone(&mine[1], &theirs[0])
    if may_clash(&t.table.hot[i]) and (equal or reversed_):
        merge_counters(t, other, i, reversed_)
        conntrack_release(t, i)
        p.conn = other
        if reversed_:
            p.ctinfo = CT_ESTABLISHED_REPLY
            conntrack_set_status(t, other, SEEN_REPLY)
        count(t, S_CLASH_RESOLVE)
        return 0
    if may_clash(&t.table.hot[i]) and not reply_taken:
        lock(conn_lock(t, i))
        t.table.hot[i].expires = now + TICKS
        or8(&t.table.hot[i].flags, CONN_HIDDEN)
        or32(&t.table.hot[i].status, CONFIRMED | FIXED_TIMEOUT)
        unlock(conn_lock(t, i))
        count(t, S_CLASH_RESOLVE)
        return 0
    count(t, S_INSERT_FAILED)
    count(t, S_DROP)
    conntrack_release(t, i)
    p.conn = 0
    return REASON_INSERT_FAILED


cdef inline void lock_both(Conntrack* t, uint64_t hash, uint64_t other) noexcept nogil:
    """Locks of two buckets, in the order of the stripes; one if they are the same."""
    cdef uint64_t first = hash & (LOCKS - 1), second = other & (LOCKS - 1)
    lock(&t.bucket_locks[first if first < second else second])
    if first != second:
        lock(&t.bucket_locks[second if first < second else first])


cdef inline void unlock_both(Conntrack* t, uint64_t hash, uint64_t other) noexcept nogil:
    unlock(bucket_lock(t, hash))
    if bucket_lock(t, hash) != bucket_lock(t, other):
        unlock(bucket_lock(t, other))


cdef inline void settle(Conntrack* t, uint32_t i, uint64_t now_ns) noexcept nogil:
    """From unconfirmed to confirmed: its time begins now.  CONFIRMED is the last word written."""
    cdef ConnHot* c = &t.table.hot[i]
    t.table.cold[i].start_ns = now_ns
    if t.tunable[T_TIMESTAMP]:
        or8(&c.flags, CONN_STAMPED)
    c.expires += ticks(now_ns)
    and8(&c.flags, <uint8_t>(0xff - CONN_EVENT))
    fence()
    or32(&c.status, CONFIRMED)
    count(t, S_INSERT)
    emit(t, i, EVENT_NEW, t.table.cold[i].pending | (TELL_RELATED if c.status & EXPECTED else TELL_NEW), 0)
    t.table.cold[i].pending = 0


cdef void tell_update(Conntrack* t, uint32_t i) noexcept nogil:
    lock(conn_lock(t, i))
    if t.table.hot[i].commit and t.table.hot[i].flags & CONN_EVENT:
        and8(&t.table.hot[i].flags, <uint8_t>(0xff - CONN_EVENT))
        emit(t, i, EVENT_UPDATE, t.table.cold[i].pending, 0)
        t.table.cold[i].pending = 0
    unlock(conn_lock(t, i))


cdef int conntrack_confirm(Conntrack* t, Packet* p, uint64_t now_ns) noexcept nogil:
    """The packet has passed its last hook: make its entry known.  To be called for every packet there.

    0, or the reason for which the packet must be dropped.  Also the moment at which UPDATE events are told.
    """
    cdef uint32_t i = p.conn, other, taken, direction = 0, now
    cdef uint64_t hash, reply_hash
    cdef ConnHot* c = &t.table.hot[i]
    cdef uint16_t zone[2]
    cdef bint apart
    cdef Tuple a
    cdef Tuple b
    if i == 0:
        return 0
    if c.status & CONFIRMED:                    # an entry that has ended since keeps this bit (life.pxd)
        if c.flags & CONN_EVENT:
            tell_update(t, i)
        return 0
    if direction_of(p.ctinfo) == REPLY:
        conntrack_release(t, i)
        return 0
    note_time(t, now_ns)
    now = ticks(now_ns)
    if c.commit == 0 or c.status & DYING:       # ended before it was anybody's: the packet must not leave without it
        count(t, S_INSERT_FAILED)
        count(t, S_DROP)
        conntrack_release(t, i)
        p.conn = 0
        return REASON_INSERT_FAILED
    apart = c.zone[0] != c.zone[1]              # each direction then meets only its like: the other lies in another zone
    zone[0] = zone[1] = c.zone[0]
    read_tuple(&t.table, i, ORIGINAL, &a)
    read_tuple(&t.table, i, REPLY, &b)
    hash = hash_tuple(t.key, &a)
    reply_hash = hash_tuple(t.key, &b)
    other = find_zoned(t, &a, zone, hash, now, FIND_ORIGINAL if apart else FIND_BOTH, i, &direction)
    zone[0] = zone[1] = c.zone[1]
    taken = find_zoned(t, &b, zone, reply_hash, now, FIND_REPLY if apart else FIND_BOTH, i, &direction)
    if other or taken:
        return resolve_clash(t, p, i, other if other else taken, now, taken != 0)
    a.zone = c.zone[0]
    b.zone = c.zone[1]
    lock(conn_lock(t, i))
    lock_both(t, hash, reply_hash)              # nobody else may confirm one of the two tuples meanwhile
    other = index_find(t, &a, hash, now, FIND_ORIGINAL if apart else FIND_BOTH, i, &direction, NULL)
    taken = index_find(t, &b, reply_hash, now, FIND_REPLY if apart else FIND_BOTH, i, &direction, NULL)
    if other == 0 and taken == 0 and c.commit and not c.status & CONFIRMED:
        settle(t, i, now_ns)
    unlock_both(t, hash, reply_hash)
    unlock(conn_lock(t, i))
    return resolve_clash(t, p, i, other if other else taken, now, taken != 0) if other or taken else 0


cdef void conntrack_hold(Conntrack* t, uint32_t conn) noexcept nogil:
    """One more reason to keep an unconfirmed entry; ends with conntrack_release."""
    lock(conn_lock(t, conn))
    if conn and t.table.hot[conn].commit and not t.table.hot[conn].status & CONFIRMED:
        t.table.hot[conn].hold += 1
    unlock(conn_lock(t, conn))


cdef void conntrack_release(Conntrack* t, uint32_t conn) noexcept nogil:
    """A packet that referred to this entry is gone: an unconfirmed entry that nobody holds ends.  0 and confirmed: nothing."""
    cdef ConnHot* c = &t.table.hot[conn]
    if conn == 0 or c.commit == 0 or c.status & CONFIRMED:
        return
    lock(conn_lock(t, conn))
    if c.commit and not c.status & CONFIRMED:
        if c.hold > 1:
            c.hold -= 1
        else:
            kill_locked(t, conn, 0)
    unlock(conn_lock(t, conn))


cdef void conntrack_close(Conntrack* t, uint32_t conn, uint64_t now_ns) noexcept nogil:
    """A RST of ours answered a packet of this TCP connection: CLOSE, for that state's time.  Unconfirmed: nothing.

    As Linux does for REJECT --reject-with tcp-reset (seen on 6.18); a SYN does not reopen it.
    """
    cdef ConnHot* c = &t.table.hot[conn]
    if conn == 0 or c.proto != PROTO_TCP:
        return
    lock(conn_lock(t, conn))
    if c.commit and c.status & CONFIRMED:
        c.state = TCP_CLOSE
        c.expires = timeouts(t, conn, T_TCP_SYN_SENT)[T_TCP_CLOSE - T_TCP_SYN_SENT] * TICKS + ticks(now_ns)
        tell(t, conn, TELL_PROTOINFO)
    unlock(conn_lock(t, conn))


# ---- for NAT, helpers and commands -------------------------------------------------------------------------------------

cdef uint32_t conntrack_lookup(Conntrack* t, const Tuple* tuple, uint32_t ignored, uint64_t now_ns, uint32_t* direction) noexcept nogil:
    """Entry with this tuple in the zones of `ignored`, unconfirmed ones included, but not that one; 0 = none."""
    cdef const uint16_t* zone = t.table.hot[ignored].zone
    cdef uint32_t now = ticks(now_ns), i
    cdef Tuple a = tuple[0]
    if zone[0] == zone[1]:
        return index_find(t, &a, hash_tuple(t.key, &a), now, FIND_ANY, ignored, direction, NULL)
    a.zone = zone[0]
    i = index_find(t, &a, hash_tuple(t.key, &a), now, FIND_ORIGINAL | FIND_NEW_ORIGINAL, ignored, direction, NULL)
    if i:
        return i
    a.zone = zone[1]
    return index_find(t, &a, hash_tuple(t.key, &a), now, FIND_REPLY | FIND_NEW_REPLY, ignored, direction, NULL)


cdef bint conntrack_tuple_taken(Conntrack* t, const Tuple* tuple, uint32_t ignored, uint64_t now_ns) noexcept nogil:
    """Does an entry other than `ignored` have this tuple, meant for its reply?

    Where its directions lie in two zones, original tuples of others do not count: the kernel looks in the bucket of the reply's
    zone (nf_conntrack_tuple_taken) for entries whose zone of that direction is the same, and no original tuple is both.
    """
    cdef uint32_t direction = 0, which = FIND_ANY
    if t.table.hot[ignored].zone[0] != t.table.hot[ignored].zone[1]:
        which = FIND_REPLY | FIND_NEW_REPLY
    return index_find(t, tuple, hash_tuple(t.key, tuple), ticks(now_ns), which, ignored, &direction, NULL) != 0


cdef void conntrack_set_status(Conntrack* t, uint32_t conn, uint32_t bits) noexcept nogil:
    """Add to an entry's status what may only be added: bits of Status."""
    or32(&t.table.hot[conn].status, bits)


cdef bint conntrack_alter_reply(Conntrack* t, uint32_t conn, const Tuple* reply) noexcept nogil:
    """NAT: what the answers of an unconfirmed entry will look like.  Its zone stays.  False: confirmed already, or no room."""
    cdef ConnHot* c = &t.table.hot[conn]
    cdef Tuple a = reply[0]
    cdef uint64_t hash, original
    cdef bint done = True
    lock(conn_lock(t, conn))
    if c.commit == 0 or c.status & CONFIRMED:
        unlock(conn_lock(t, conn))
        return False
    a.zone = c.zone[REPLY]
    original = entry_hash(t, conn, ORIGINAL)
    if c.flags & CONN_TWO:
        drop_hash(t, entry_hash(t, conn, REPLY), conn)
        and8(&c.flags, <uint8_t>(0xff - CONN_TWO))
    hash = hash_tuple(t.key, &a)
    c.commit |= 1
    fence()
    write_tuple(&t.table, conn, REPLY, &a, hash)
    fence()
    c.commit += 1
    if hash != original:
        done = put_hash(t, hash, conn)
        if done:
            or8(&c.flags, CONN_TWO)
    unlock(conn_lock(t, conn))
    return done


cdef void conntrack_expire(Conntrack* t, uint64_t now_ns, uint32_t budget) noexcept nogil:
    """Collect: look at the next `budget` entries and end those whose time is over.  Lookups do not depend on it."""
    cdef uint32_t now = ticks(now_ns), high, i
    if load32(&t.gc_lock):
        return                                  # another thread is at it
    lock(&t.gc_lock)
    note_time(t, now_ns)
    high = t.header.high
    if budget >= high:
        budget = high
    i = t.gc_cursor
    while budget:
        budget -= 1
        i += 1
        if i >= high:
            i = 0
            t.early_drop = 0 if t.count <= t.tunable[T_MAX] - t.tunable[T_MAX] // 20 else t.early_drop
            continue
        collect(t, i, now)
    t.gc_cursor = i
    if t.expect.count:
        expect_sweep(t, now)
    unlock(&t.gc_lock)


cdef void conntrack_kill(Conntrack* t, uint32_t conn) noexcept nogil:
    """End an entry, whatever its state; 0 and ended ones: nothing."""
    lock(conn_lock(t, conn))
    if conn and t.table.hot[conn].commit:
        kill_locked(t, conn, 0)
    unlock(conn_lock(t, conn))


# ---- the Python door ---------------------------------------------------------------------------------------------------

CLASSES = {0: "ESTABLISHED", 1: "RELATED", 2: "NEW", 3: "ESTABLISHED", 4: "RELATED", 7: "UNTRACKED", 8: "INVALID"}


cdef class ConntrackTable(EntryTable):
    """The flow table.  `ConntrackTable()` makes one, `ConntrackTable.attach(fd)` continues one that another process left.

    Its settings and life: conntrack/_memory.pyx; entries that are there: conntrack/_entries.pyx; expectations: conntrack/_expectations.pyx.
    """

    def insert(self, entry, now_ns=None, uint32_t portid=0):
        """Make a confirmed entry as `conntrack -I` does.

        FileExistsError: a tuple is taken.  OSError: no room.  ValueError, OverflowError: a number that no entry can have.
        """
        cdef Conntrack* t = self.handle
        cdef Packet p
        cdef Dress dress
        cdef Tuple a[2]
        cdef uint16_t zone[2]
        cdef uint32_t i, d, direction = 0
        cdef uint64_t now = now_ns if now_ns is not None else time.monotonic_ns()
        if entry.status & EXPECTED:
            raise PermissionError(errno.EBUSY, "Device or resource busy")
        read_dress(&dress, entry)
        for d, side in enumerate((entry.original, entry.reply)):
            fill_tuple(&a[d], entry.family, entry.proto, side)
            zone[d] = side.zone
        if is_icmp(a[0].proto, a[0].family):
            if not inverse(&a[0], &a[1]):
                raise OSError(errno.EINVAL, "Invalid argument")
        t.now_ns = now
        for d in range(2):
            a[d].zone = zone[d]
            if index_find(t, &a[d], hash_tuple(t.key, &a[d]), ticks(now), FIND_ANY, 0, &direction, NULL):
                raise FileExistsError(errno.EEXIST, "File exists")
        memset(&p, 0, sizeof(Packet))
        i = entry_make(t, &p, &a[0], zone, hash_tuple(t.key, &a[0]))
        if i == 0:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        unlock(conn_lock(t, i))
        conntrack_alter_reply(t, i, &a[1])
        lock(conn_lock(t, i))
        self._dress(i, &dress, now, portid)
        unlock(conn_lock(t, i))
        return i

    def expire(self, now_ns, budget=1 << 30):
        """Collect ended entries, looking at `budget` of them."""
        cdef uint64_t now = now_ns
        cdef uint32_t n = budget
        with nogil:
            conntrack_expire(self.handle, now, n)

    # offline: one packet at a time, for tests, benchmarks and explanations

    def process(self, data, now_ns, *, hook=0, family=None, confirm=True, local=False, zone=0, zone_dir=0, skbinfo=0, own=False,
                total=None, ctinfo=8):
        """Feed one layer-3 packet; returns (class, direction, entry number, reason).  confirm=False leaves a new entry unconfirmed."""
        cdef Packet p
        cdef uint64_t now = now_ns
        cdef uint32_t number
        cdef uint8_t klass
        cdef bint finish = confirm
        cdef bytearray room = bytearray(data)
        memset(&p, 0, sizeof(Packet))
        p.data = <uint8_t*>room
        p.len = len(room)
        p.total = p.len if total is None else total
        p.family = family or (10 if room and room[0] >> 4 == 6 else 2)
        p.hook, p.local, p.own, p.zone, p.zone_dir, p.skbinfo = hook, local, own, zone, zone_dir, skbinfo
        p.ctinfo = ctinfo
        p.verdict = ACCEPT
        with nogil:
            parse(&p)
            conntrack_in(self.handle, &p, now, NULL)
            number = p.conn
            klass = p.ctinfo
            if finish and p.verdict == ACCEPT:
                p.reason = <uint8_t>conntrack_confirm(self.handle, &p, now)
        direction = "reply" if klass in (3, 4) else "original"
        return CLASSES[klass], direction, number, p.reason

    def release(self, uint32_t number):
        """Let go of an entry that `process` left unconfirmed.  ValueError: there is no such number."""
        if number >= self.handle.header.high:
            raise ValueError(f"entry {number}: the table has used {self.handle.header.high - 1}")
        conntrack_release(self.handle, number)
