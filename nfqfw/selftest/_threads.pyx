"""Several queue threads at once, over a kernel of queues in memory: no part of the data path.

Overview.  Each thread runs `work`: it takes up to 64 packets from its queue, has its engine judge them, and delivers the
accepted ones in verdict order, as send() of verdicts does in the kernel (docs/queues.md): from PREROUTING to FORWARD, into
the queue that the addresses choose; from FORWARD to a host behind it.  The packets are datagrams of many clients to some
virtual addresses of one server, and the server answers: mostly with the payload, at times with an ICMP error about it.
Whatever reaches a client is compared with what that client sent: address, port, payload, and who seems to answer.

All clients use the same few ports, and all datagrams of a client look alike between the hooks but for the connection that
they belong to: that is what in-flight records must get right.  Some packets have a hop count of 1: the kernel refuses them between the hooks.

Outcomes are counted in Tally; a test says which must be 0.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from nfqfw._atomic cimport add32, add64, give_way, load32, lock, store32, unlock
from nfqfw._checksum cimport fold, sum_bytes
from nfqfw._outbox cimport EngineDoor
from nfqfw._packet cimport ACCEPT, FORWARD, IPV4, PREROUTING, Packet, be16, be32, put16, put32

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec* out)

cdef enum:
    BATCH = 64
    ROOM = 128                  # longest packet here: an ICMP error of 20 + 8 + 32 bytes
    QUEUE = 1 << 14             # packets that a queue holds
    THREADS = 8
    AHEAD = 2000                # packets on their way at once; a thread sends no new ones above that
    CLIENT_SIDE = 2             # ifindex of eth0
    SERVER_SIDE = 3             # eth1
    UDP = 17
    ICMP = 1
    LENGTH = 32                 # of a datagram: 20 + 8 + 4
    SERVER = 0x0a000202         # 10.0.2.2
    CLIENTS = 0x0a070000        # 10.7.0.0/16
    VIPS = 0xc0000200           # 192.0.2.0/24
    SERVER_PORT = 53

FIELDS = ("sent", "answered", "errors", "refused", "lost", "wrong_client", "wrong_answerer", "wrong_quote", "wrong_source", "full")


cdef struct Parcel:
    uint8_t data[128]
    uint32_t len
    uint32_t ifin
    uint32_t ifout
    uint8_t hook


cdef struct Fifo:
    uint32_t lock
    uint32_t head
    uint32_t tail
    Parcel parcels[1 << 14]


cdef struct Tally:
    uint64_t sent               # datagrams of clients
    uint64_t answered           # answers that reached the right client, from whom it had asked
    uint64_t errors             # ICMP errors that did
    uint64_t refused            # packets that the kernel dropped between two hooks
    uint64_t lost               # packets that the engine dropped
    uint64_t wrong_client       # an answer for somebody else, or with another payload
    uint64_t wrong_answerer     # an answer that seems to come from another address than was asked
    uint64_t wrong_quote        # an error about a packet that the client had not sent
    uint64_t wrong_source       # a datagram reached the server with an untranslated source
    uint64_t full               # a queue was full


cdef struct Wire:
    uint32_t threads
    uint32_t stop               # no new datagrams
    uint32_t clients
    uint32_t vips
    uint32_t refuse             # one packet in so many has TTL 1, 0 = none
    uint32_t error              # one answer in so many is an ICMP error, 0 = none
    uint32_t next               # number of the next datagram
    uint32_t limit              # of datagrams
    uint32_t under_way
    Fifo* fifos
    Tally tally


cdef struct Worker:             # one thread; its engine may have verdicts delivered in the middle of a batch
    Wire* wire
    EngineDoor door
    uint32_t number
    uint32_t n
    uint32_t told
    uint64_t random
    Parcel parcels[64]
    Packet packets[64]


cdef uint64_t monotonic() noexcept nogil:
    cdef timespec at
    clock_gettime(1, &at)
    return <uint64_t>at.tv_sec * 1000000000 + at.tv_nsec


cdef inline uint32_t random32(Worker* w) noexcept nogil:
    w.random ^= w.random << 13
    w.random ^= w.random >> 7
    w.random ^= w.random << 17
    return <uint32_t>(w.random >> 16)


# ---- queues -----------------------------------------------------------------------------------------------------------

cdef void put(Wire* wire, const Parcel* parcel) noexcept nogil:
    """Queue a packet as xt_NFQUEUE does: by addresses and protocol, the same for both directions."""
    cdef uint32_t a = be32(parcel.data + 12), b = be32(parcel.data + 16), hash_value
    cdef Fifo* f
    hash_value = ((a ^ b) * 0x9E3779B1U + parcel.data[9] * 0x85EBCA6BU) >> 8
    f = &wire.fifos[hash_value % wire.threads]
    lock(&f.lock)
    if f.tail - f.head < QUEUE:
        memcpy(&f.parcels[f.tail & (QUEUE - 1)], parcel, sizeof(Parcel))
        f.tail += 1
    else:
        add64(&wire.tally.full, 1)
        add32(&wire.under_way, 0xffffffff)
    unlock(&f.lock)


cdef uint32_t get(Wire* wire, uint32_t number, Parcel* out) noexcept nogil:
    cdef Fifo* f = &wire.fifos[number]
    cdef uint32_t n = 0
    lock(&f.lock)
    while n < BATCH and f.head != f.tail:
        memcpy(&out[n], &f.parcels[f.head & (QUEUE - 1)], sizeof(Parcel))
        f.head += 1
        n += 1
    unlock(&f.lock)
    return n


# ---- hosts ------------------------------------------------------------------------------------------------------------

cdef void put_header(Worker* w, uint8_t* h, uint8_t proto, uint32_t length, uint32_t src, uint32_t dst) noexcept nogil:
    memset(h, 0, 20)
    h[0] = 0x45
    h[8] = 1 if w.wire.refuse and random32(w) % w.wire.refuse == 0 else 64
    h[9] = proto
    put16(h + 2, length)
    put32(h + 12, src)
    put32(h + 16, dst)
    put16(h + 10, fold(sum_bytes(h, 20, 0)))


cdef inline uint32_t client_of(const Wire* wire, uint32_t number) noexcept nogil:
    return CLIENTS + 1 + (number // wire.vips) % wire.clients


cdef inline uint32_t vip_of(const Wire* wire, uint32_t number) noexcept nogil:
    return VIPS + 1 + number % wire.vips


cdef inline uint32_t port_of(const Wire* wire, uint32_t number) noexcept nogil:
    """One of four, the same for all virtual addresses of a turn."""
    return 5000 + (number // wire.vips // wire.clients) % 4


cdef void send_new(Worker* w) noexcept nogil:
    """A datagram of the client whose turn it is: client, virtual address and port follow from its number, the payload."""
    cdef Parcel p
    cdef uint32_t number = add32(&w.wire.next, 1) - 1
    if number >= w.wire.limit:
        store32(&w.wire.stop, 1)
        return
    memset(&p, 0, sizeof(Parcel))
    put_header(w, p.data, UDP, LENGTH, client_of(w.wire, number), vip_of(w.wire, number))
    put16(p.data + 20, port_of(w.wire, number))
    put16(p.data + 22, SERVER_PORT)
    put16(p.data + 24, LENGTH - 20)
    put32(p.data + 28, number)
    p.len = LENGTH
    p.ifin = CLIENT_SIDE
    p.hook = PREROUTING
    add64(&w.wire.tally.sent, 1)
    add32(&w.wire.under_way, 1)
    put(w.wire, &p)


cdef void at_server(Worker* w, const Parcel* seen) noexcept nogil:
    """The server got a datagram: it answers, or says that nobody listens."""
    cdef Wire* wire = w.wire
    cdef Parcel p
    cdef const uint8_t* h = seen.data
    if be32(h + 12) >> 16 == CLIENTS >> 16 or be32(h + 16) != SERVER:
        add64(&wire.tally.wrong_source, 1)
        add32(&wire.under_way, 0xffffffff)
        return
    memset(&p, 0, sizeof(Parcel))
    p.ifin = SERVER_SIDE
    p.hook = PREROUTING
    if wire.error and random32(w) % wire.error == 0:
        p.len = 28 + LENGTH
        put_header(w, p.data, ICMP, p.len, SERVER, be32(h + 12))
        p.data[20] = p.data[21] = 3
        memcpy(p.data + 28, h, LENGTH)
        put16(p.data + 22, fold(sum_bytes(p.data + 20, p.len - 20, 0)))
    else:
        p.len = LENGTH
        put_header(w, p.data, UDP, LENGTH, SERVER, be32(h + 12))
        memcpy(p.data + 20, h + 22, 2)
        memcpy(p.data + 22, h + 20, 2)
        memcpy(p.data + 24, h + 24, 8)
    put(wire, &p)


cdef void at_client(Worker* w, const Parcel* seen) noexcept nogil:
    """A client got something: is it about what this client has sent?"""
    cdef Wire* wire = w.wire
    cdef const uint8_t* h = seen.data
    cdef const uint8_t* quote = h + 28
    cdef uint32_t number
    add32(&wire.under_way, 0xffffffff)
    if h[9] == ICMP:
        number = be32(quote + 28)
        if fold(sum_bytes(h + 20, seen.len - 20, 0)) != 0 or be32(h + 16) != be32(quote + 12):
            add64(&wire.tally.wrong_quote, 1)
        elif be32(quote + 12) != client_of(wire, number) or be16(quote + 20) != port_of(wire, number) or be32(quote + 16) != vip_of(wire, number):
            add64(&wire.tally.wrong_quote, 1)
        else:
            add64(&wire.tally.errors, 1)
        return
    number = be32(h + 28)
    if be32(h + 16) != client_of(wire, number) or be16(h + 22) != port_of(wire, number):
        add64(&wire.tally.wrong_client, 1)
    elif be32(h + 12) != vip_of(wire, number):
        add64(&wire.tally.wrong_answerer, 1)
    else:
        add64(&wire.tally.answered, 1)


# ---- one thread -------------------------------------------------------------------------------------------------------

cdef void deliver(Worker* w, const Packet* p) noexcept nogil:
    """What the kernel does with a packet that has its verdict."""
    cdef Wire* wire = w.wire
    cdef Parcel next
    cdef uint32_t dst
    if p.verdict != ACCEPT:
        add64(&wire.tally.lost, 1)
        add32(&wire.under_way, 0xffffffff)
        return
    memset(&next, 0, sizeof(Parcel))
    memcpy(next.data, p.data, p.len)
    next.len = p.len
    next.ifin = p.ifin
    if p.hook == PREROUTING:
        if next.data[8] <= 1:
            add64(&wire.tally.refused, 1)
            add32(&wire.under_way, 0xffffffff)
            return
        dst = be32(next.data + 16)
        next.ifout = SERVER_SIDE if dst == SERVER else CLIENT_SIDE
        next.hook = FORWARD
        next.data[8] -= 1
        put16(next.data + 10, 0)
        put16(next.data + 10, fold(sum_bytes(next.data, 20, 0)))
        put(wire, &next)
    elif p.ifout == SERVER_SIDE:
        at_server(w, &next)
    else:
        at_client(w, &next)


cdef void send_part(void* transport, uint32_t n, uint32_t n_released) noexcept nogil:
    cdef Worker* w = <Worker*>transport
    while w.told < n:
        deliver(w, &w.packets[w.told])
        w.told += 1


cdef void judge(Worker* w) noexcept nogil:
    cdef Packet* p
    cdef uint32_t i
    for i in range(w.n):
        p = &w.packets[i]
        memset(p, 0, sizeof(Packet))
        p.data = w.parcels[i].data
        p.len = p.total = w.parcels[i].len
        p.capacity = ROOM
        p.family = IPV4
        p.hook = w.parcels[i].hook
        p.ifin = w.parcels[i].ifin
        p.ifout = w.parcels[i].ifout
    w.told = 0
    w.door.batch(w.door.engine, w.packets, w.n, monotonic(), 0)
    send_part(w, w.n, 0)


cdef void run(Worker* w, uint64_t deadline) noexcept nogil:
    cdef Wire* wire = w.wire
    cdef uint32_t k
    while monotonic() < deadline:
        if load32(&wire.stop) == 0 and load32(&wire.under_way) < AHEAD:
            for k in range(BATCH):
                send_new(w)
        w.n = get(wire, w.number, w.parcels)
        if w.n:
            judge(w)
        else:
            w.door.idle(w.door.engine, monotonic())
            if load32(&wire.stop) and load32(&wire.under_way) == 0:
                return
            give_way()


cdef class Exchange:
    """Queues in memory for `threads` engines.  Call `work` once for each of them, in threads of their own."""
    cdef Wire* wire

    def __cinit__(self, int threads, uint32_t datagrams, uint32_t clients=200, uint32_t vips=3, uint32_t refuse=0, uint32_t error=0):
        if not 1 <= threads <= THREADS or clients > 65000 or not clients or not vips:
            raise ValueError("out of range")
        self.wire = <Wire*>calloc(1, sizeof(Wire))
        if self.wire == NULL:
            raise MemoryError
        self.wire.fifos = <Fifo*>calloc(threads, sizeof(Fifo))
        if self.wire.fifos == NULL:
            raise MemoryError
        self.wire.threads = threads
        self.wire.limit, self.wire.clients, self.wire.vips = datagrams, clients, vips
        self.wire.refuse, self.wire.error = refuse, error

    def __dealloc__(self):
        if self.wire != NULL:
            free(self.wire.fifos)
        free(self.wire)

    def work(self, int number, engine, seconds=60):
        """Run one engine until everything has arrived, or `seconds` are over.  No GIL is held meanwhile."""
        cdef Worker* w = <Worker*>calloc(1, sizeof(Worker))
        cdef uint64_t deadline = monotonic() + <uint64_t>(seconds * 1e9)
        if w == NULL:
            raise MemoryError
        capsule = engine.door()
        w.door = (<EngineDoor*>PyCapsule_GetPointer(capsule, b"nfqfw.EngineDoor"))[0]
        w.wire = self.wire
        w.number = number
        w.random = 0x9E3779B97F4A7C15U * (number + 1)
        w.door.sender.send = send_part
        w.door.sender.transport = w
        with nogil:
            run(w, deadline)
        w.door.sender.send = NULL
        free(w)

    def tally(self):
        """Counts by FIELDS, and `under_way`: what is still in the queues."""
        cdef uint64_t* counts = <uint64_t*>&self.wire.tally
        return {name: counts[i] for i, name in enumerate(FIELDS)} | {"under_way": self.wire.under_way}
