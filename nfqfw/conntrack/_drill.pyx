"""Drill: synthetic packets at C speed, for the benchmark and the flood test; no part of the data path.

Flow number i of seed s is a TCP connection 10.x.y.z:port -> 192.0.2.1:80 whose client end is a bijection of i, so that any
number of flows can be named without a list.  Packets are bare 40-byte ACKs or SYNs with an unfinished checksum.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from nfqfw._conn cimport CONFIRMED, CONN_EVENT, ConnHot
from nfqfw._atomic cimport prefetch
from nfqfw._conntrack cimport (Conntrack, ConntrackTable, conntrack_confirm, conntrack_expire, conntrack_in,
                               conntrack_prefetch_bucket, conntrack_prefetch_entry, conntrack_release)
from nfqfw.conntrack.table cimport Bucket
from nfqfw._packet cimport ACCEPT, CT_INVALID, HAS_L4, HAS_PORTS, HAS_TCP, IPV4, SKB_CSUMNOTREADY, Packet, put16, put32

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec* out)


cdef enum:
    BATCH = 64
    SYN = 2
    ACK = 16


cdef struct Room:
    Packet packet
    uint8_t data[40]


cdef uint64_t moment() noexcept nogil:
    cdef timespec at
    clock_gettime(3, &at)               # CLOCK_THREAD_CPUTIME_ID: what others do on the machine counts less
    return <uint64_t>at.tv_sec * 1000000000 + at.tv_nsec


cdef inline uint64_t step(uint64_t* state) noexcept nogil:
    """xorshift64*."""
    state[0] ^= state[0] >> 12
    state[0] ^= state[0] << 25
    state[0] ^= state[0] >> 27
    return state[0] * <uint64_t>2685821657736338717ULL


cdef void compose(Room* r, uint64_t client, bint back, uint8_t flags, uint32_t seq) noexcept nogil:
    """One packet of the flow whose 48-bit client end is `client` (address, port)."""
    cdef Packet* p = &r.packet
    cdef uint8_t* h = r.data
    memset(r, 0, sizeof(Room))
    h[0] = 0x45
    h[3] = 40
    h[8] = 64
    h[9] = 6
    put32(h + (16 if back else 12), <uint32_t>(client >> 16))
    put32(h + (12 if back else 16), 0xc0000201U)
    put16(h + (22 if back else 20), <uint32_t>(client & 0xffff))
    put16(h + (20 if back else 22), 80)
    put32(h + 24, seq)
    put32(h + 28, seq)
    h[32] = 0x50
    h[33] = flags
    put16(h + 34, 65535)
    p.data = h
    p.len = p.total = p.l3_len = p.capacity = 40
    p.family = IPV4
    p.proto = 6
    p.thoff = 20
    p.flags = HAS_L4 | HAS_PORTS | HAS_TCP
    p.skbinfo = SKB_CSUMNOTREADY
    p.ctinfo = CT_INVALID
    p.verdict = ACCEPT


cdef inline uint64_t client_of(uint64_t i, uint64_t seed) noexcept nogil:
    """A bijection of 48 bits: multiply by an odd number, add."""
    return (i * <uint64_t>0x5851f42d4c95ULL + seed * <uint64_t>0x14057b7ef767ULL) & <uint64_t>0xffffffffffffULL


cdef inline bint settled(const ConnHot* c) noexcept nogil:
    """Nothing to confirm and nothing to tell: as the pipeline asks before it calls confirm."""
    return (c.status & CONFIRMED) != 0 and not c.flags & CONN_EVENT


cdef void feed(Conntrack* t, Room* rooms, uint32_t n, uint64_t now, bint batched, bint tracked) noexcept nogil:
    cdef uint32_t k
    if not tracked:
        return
    if batched:
        for k in range(n):
            conntrack_prefetch_bucket(t, &rooms[k].packet)
        for k in range(n):
            conntrack_prefetch_entry(t, &rooms[k].packet)
    for k in range(n):
        conntrack_in(t, &rooms[k].packet, now, NULL)
        if rooms[k].packet.verdict == ACCEPT and not settled(&t.table.hot[rooms[k].packet.conn]):
            conntrack_confirm(t, &rooms[k].packet, now)


def establish(ConntrackTable table not None, uint64_t flows, uint64_t now_ns, uint64_t seed=1):
    """Make flows 0 .. flows-1 by picking them up and answering (three packets each: ESTABLISHED, ASSURED); ns for the first packets."""
    cdef Conntrack* t = table.handle
    cdef Room rooms[64]
    cdef uint64_t i, k, n, begin, spent = 0
    cdef uint32_t turn
    with nogil:
        i = 0
        while i < flows:
            n = flows - i if flows - i < BATCH else BATCH
            for turn in range(3):
                for k in range(n):
                    compose(&rooms[k], client_of(i + k, seed), turn == 1, ACK, 1000)
                begin = moment()
                feed(t, rooms, <uint32_t>n, now_ns, True, True)
                if turn == 0:
                    spent += moment() - begin
            i += n
    return spent


def touch(ConntrackTable table not None, uint64_t flows, uint64_t packets, uint64_t now_ns, bint batched, bint tracked=True, uint64_t seed=1):
    """Packets of random flows of 0 .. flows-1, both directions; total ns, composing included (tracked=False: composing alone)."""
    cdef Conntrack* t = table.handle
    cdef Room rooms[64]
    cdef uint64_t state = 88172645463325252ULL, begin, k, done = 0, draw
    if flows == 0:
        raise ValueError("packets of no flows")
    with nogil:
        begin = moment()
        while done < packets:
            for k in range(BATCH):
                draw = step(&state)
                compose(&rooms[k], client_of((draw >> 16) % flows, seed), draw & 1, ACK, 1000)
            feed(t, rooms, BATCH, now_ns, batched, tracked)
            done += BATCH
        begin = moment() - begin
    return begin


def memory_floor(ConntrackTable table not None, uint64_t flows, uint64_t packets, bint batched):
    """ns per packet that the memory alone takes: a bucket, then an entry's two lines, at random, each read and written and nothing done.

    One by one the entry's number is made from what the bucket holds and the next bucket from what the entry holds, so no two
    packets overlap; batched, a stage of 64 buckets is asked for ahead and then a stage of 64 entries.
    """
    cdef Conntrack* t = table.handle
    cdef uint64_t state = 88172645463325252ULL, begin, k, done = 0, draw = 0
    cdef uint64_t number[64]
    cdef Bucket* bucket[64]
    cdef uint64_t mask = t.index.n_buckets - 1
    if not 2 <= flows <= t.table.capacity:
        raise ValueError(f"{flows} flows: not within 2 to {t.table.capacity}")
    with nogil:
        begin = moment()
        while done < packets:
            for k in range(BATCH):
                bucket[k] = &t.index.buckets[(step(&state) >> 16) & mask]
                number[k] = 1 + (step(&state) >> 16) % (flows - 1)
                if batched:
                    prefetch(bucket[k])
            for k in range(BATCH if batched else 0):
                number[k] += bucket[k].next == 0xffffffffU
                prefetch(&t.table.hot[number[k]])
                prefetch(&t.table.window[number[k]])
            for k in range(BATCH):
                if not batched:
                    bucket[k] = &t.index.buckets[(<uint64_t>(bucket[k] - t.index.buckets) + draw) & mask]
                    number[k] += bucket[k].next == 0xffffffffU
                    prefetch(&t.table.window[number[k]])
                draw = t.table.hot[number[k]].commit & 1
                t.table.hot[number[k]].hold += draw
                draw |= t.table.window[number[k]].guard & 1
                t.table.window[number[k]].retrans += <uint8_t>draw
            done += BATCH
        begin = moment() - begin
    return begin / <double>packets


def flood(ConntrackTable table not None, uint64_t packets, uint64_t now_ns, uint64_t gap_ns, uint32_t budget=256, uint64_t seed=2):
    """SYNs of `packets` different clients, gap_ns apart, the collector running; (ns, packets refused)."""
    cdef Conntrack* t = table.handle
    cdef Room rooms[64]
    cdef uint64_t begin, k, done = 0, refused = 0
    with nogil:
        begin = moment()
        while done < packets:
            for k in range(BATCH):
                compose(&rooms[k], client_of(done + k, seed), False, SYN, 1000)
            feed(t, rooms, BATCH, now_ns, True, True)
            for k in range(BATCH):
                refused += rooms[k].packet.verdict != ACCEPT
            done += BATCH
            now_ns += gap_ns * BATCH
            conntrack_expire(t, now_ns, budget)
        begin = moment() - begin
    return begin, refused


def half_open(ConntrackTable table not None, uint64_t rounds, uint64_t now_ns):
    """64 SYNs of new clients a round, refused before they are confirmed; how many of their entries had ended before that."""
    cdef Conntrack* t = table.handle
    cdef Room rooms[64]
    cdef const ConnHot* c
    cdef uint64_t turn, k, ended = 0
    with nogil:
        for turn in range(rounds):
            for k in range(BATCH):
                compose(&rooms[k], client_of(turn * BATCH + k, 3), False, SYN, 1000)
                conntrack_in(t, &rooms[k].packet, now_ns, NULL)
            for k in range(BATCH):
                c = &t.table.hot[rooms[k].packet.conn]
                ended += c.commit == 0 or c.id != rooms[k].packet.life
                conntrack_release(t, rooms[k].packet.conn)
    return ended


def classes(ConntrackTable table not None, uint64_t flows, uint64_t now_ns, uint64_t seed=1):
    """Send one more packet on each of flows 0 .. flows-1; how many are ESTABLISHED."""
    cdef Conntrack* t = table.handle
    cdef Room rooms[64]
    cdef uint64_t i, found = 0
    with nogil:
        for i in range(flows):
            compose(&rooms[0], client_of(i, seed), False, ACK, 1000)
            feed(t, rooms, 1, now_ns, False, True)
            found += rooms[0].packet.ctinfo == 0
    return found


def expire_all(ConntrackTable table not None, uint64_t now_ns, uint64_t budget):
    """ns that the collector takes to look at `budget` entries."""
    cdef uint64_t begin
    with nogil:
        begin = moment()
        conntrack_expire(table.handle, now_ns, <uint32_t>budget)
        begin = moment() - begin
    return begin
