"""The engine's Python door: programs in, decisions, counters and records out.  The engine itself is _pipeline.pyx."""

cimport cython
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from nfqfw._conntrack cimport ConntrackTable
from nfqfw._defrag cimport Defrag, defrag_free, defrag_new
from nfqfw._host cimport HostHeader, host_fault
from nfqfw._inflight cimport INFLIGHT_THREADS, InFlightTable, inflight_count, inflight_free, inflight_new
from nfqfw._named cimport NamedTable
from nfqfw._outbox cimport Outbox
from nfqfw._packet cimport ACCEPT, DIRTY_PAYLOAD, DROP, HELD, HOOKS, IPV4, IPV6, KNOWN_GID, KNOWN_HWADDR, KNOWN_UID, Packet
from nfqfw._paths cimport PATHS, PathTable
from nfqfw._pipeline cimport EngineState, ProgramView, Stats, engine_batch, engine_idle
from nfqfw._program cimport Counter, ProgramHeader, RuleRow, TestRow
from nfqfw._program_check cimport program_fault
from nfqfw._reject cimport IcmpLimit
from nfqfw._registry cimport NamedHandle
from nfqfw._ring cimport Ring, ring_drain, ring_free, ring_init

import os

from nfqfw._registry import NamedTables
from nfqfw.conntrack._policies import TimeoutPolicies
from nfqfw.errors import NfqfwError
from nfqfw.limits import QUEUE_LENGTH
from nfqfw.packets import Decision
from nfqfw.reasons import REASONS

cdef extern from *:
    """
    #include <time.h>
    #define nfqfw_store(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
    static unsigned long long nfqfw_serials;
    static unsigned long long nfqfw_next_serial(void) { return __atomic_add_fetch(&nfqfw_serials, 1, __ATOMIC_RELAXED); }
    static unsigned long long nfqfw_monotonic_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec * 1000000000ull + t.tv_nsec;
    }
    """
    uint64_t monotonic_ns "nfqfw_monotonic_ns"() nogil
    void store_view "nfqfw_store"(ProgramView** at, ProgramView* view) nogil
    void store_host "nfqfw_store"(const void** at, const void* host) nogil
    void store_serial "nfqfw_store"(uint64_t* at, uint64_t serial) nogil
    uint64_t next_serial "nfqfw_next_serial"() nogil

cdef enum:
    ROOM = 64                   # bytes a target may add to a packet

REJECTS = ("sent", "fragment", "bad_checksum", "not_unicast", "of_error", "short", "rate_limited", "outbox_full", "no_route")  # RejectOutcome
HOSTS_KEPT = 16                 # Host blocks kept alive: more changes than can come during one batch


cdef uint8_t* take_in(Packet* p, packet) except NULL:
    """Fill a Packet from a PacketIn; returns its copy of the bytes, which the caller frees.  ValueError: no hook or family of IP."""
    cdef bytes data = packet.data
    cdef uint32_t n = len(data), total = packet.total
    memset(p, 0, sizeof(Packet))
    p.len = n
    p.capacity = n + ROOM
    p.total = total if total > n else n
    p.id = packet.id
    p.family = packet.family
    p.hook = packet.hook
    if p.hook >= HOOKS or (p.family != IPV4 and p.family != IPV6):
        raise ValueError(f"hook {p.hook} of family {p.family}: hooks are 0 to {HOOKS - 1}, families {<int>IPV4} and {<int>IPV6}")
    p.ifin = packet.ifin
    p.ifout = packet.ifout
    p.physin = packet.physin
    p.physout = packet.physout
    p.mark = packet.mark
    p.priority = packet.priority
    p.skbinfo = packet.skbinfo
    facts(p, packet)
    p.data = <uint8_t*>calloc(n + ROOM, 1)
    if p.data == NULL:
        raise MemoryError
    memcpy(p.data, <const char*>data, n)
    return p.data


cdef bytes host_block(block):
    """A copy of a Host block that readers can trust; ValueError says what is wrong with it, TypeError that it is no bytes."""
    cdef bytes kept = bytes(memoryview(block))
    cdef const char* fault = host_fault(<const HostHeader*><const char*>kept, len(kept))
    if fault != NULL:
        raise ValueError(f"no Host block: {fault.decode()}; host.Host(...).block makes one")
    return kept


cdef facts(Packet* p, packet):
    """The optional facts: link-layer source, owner."""
    cdef bytes address = packet.hwaddr
    if address:
        p.hwlen = min(8, len(address))
        memcpy(p.hwaddr, <const char*>address, p.hwlen)
        p.known |= KNOWN_HWADDR
    if packet.uid is not None:
        p.uid = packet.uid
        p.known |= KNOWN_UID
    if packet.gid is not None:
        p.gid = packet.gid
        p.known |= KNOWN_GID


@cython.no_gc_clear             # __dealloc__ reads what it refers to
cdef class LoadedProgram:
    """A Program in memory with its counters (one set per queue thread) and rule state.

    Engines keep pointers into it: it must outlive the batch boundary at which the last of them took up another one.
    """

    def __cinit__(self, program, int threads=1, named=None, LoadedProgram before=None):
        """named: the NamedTables that outlive this Program; None = its tables are its own.

        before: the Program in force, of as many threads.  If this one is an edit of it, its counters go on here.
        """
        cdef const ProgramHeader* header
        cdef const uint8_t* block
        cdef const char* fault
        cdef int i
        cdef uint64_t serial = next_serial()
        if not 1 <= threads <= INFLIGHT_THREADS:
            raise ValueError(f"{threads} queue threads: not within 1 to {INFLIGHT_THREADS}")
        self.program = program
        self.block = program.block
        self.head = program.head
        self.threads = threads
        self.room = program.counters_room
        block = <const uint8_t*><const char*>self.block
        header = <const ProgramHeader*>(<const uint8_t*><const char*>self.head if self.head else block)
        fault = program_fault(header, len(self.head or self.block), block, len(self.block), len(program.state_image), self.room,
                              before is None or before.block is not self.block)
        if fault != NULL:
            raise ValueError(f"no Program: {fault.decode()}; compile_rulesets(...) makes one")
        self.state = <uint8_t*>calloc(max(1, len(program.state_image)), 1)
        self.views = <ProgramView*>calloc(threads, sizeof(ProgramView))
        if before is not None and before.block is self.block and before.threads == threads:
            self.counting = before if before.counting is None else before.counting
            self.counters = self.counting.counters
        else:
            self.counters = <Counter*>calloc(max(1, threads * <size_t>self.room), sizeof(Counter))
        if self.state == NULL or self.counters == NULL or self.views == NULL:
            raise MemoryError
        self.tables = (named or NamedTables()).take(program.named)
        self.named = <NamedTable**>calloc(max(1, len(self.tables)), sizeof(NamedTable*))
        if self.named == NULL:
            raise MemoryError
        for i in range(len(self.tables)):
            self.named[i] = (<NamedHandle>self.tables[i]).table
        memcpy(self.state, <const char*>(<bytes>program.state_image), len(program.state_image))
        for i in range(threads):
            self.views[i].program = header
            self.views[i].rules = <const RuleRow*>(block + header.rules)
            self.views[i].tests = <const TestRow*>(block + header.tests)
            self.views[i].data = block + header.data
            self.views[i].state = self.state
            self.views[i].named = self.named
            self.views[i].serial = serial
            self.views[i].counters = self.counters + i * <size_t>self.room
            self.views[i].stack = <uint32_t*>calloc(2 * header.stack_depth + 2, sizeof(uint32_t))
            if self.views[i].stack == NULL:
                raise MemoryError

    def __dealloc__(self):
        cdef int i
        if self.views != NULL:
            for i in range(self.threads):
                free(self.views[i].stack)
        free(self.views)
        free(self.named)
        if self.counting is None:
            free(self.counters)
        free(self.state)

    @property
    def goes_on(self) -> bool:
        """Whether its counters are those of the Program before it."""
        return self.counting is not None

    cdef ProgramView* view(self, int thread):
        return &self.views[thread]

    def inherit(self, LoadedProgram old not None, copies) -> None:
        """Take over rule state from the Program in force: (offset here, offset there, bytes) each.

        Before this one is loaded.  What a packet takes from a bucket between the copy and the swap is lost to the copy.
        """
        cdef Py_ssize_t here, there, size
        for here, there, size in copies:
            if min(here, there, size) < 0 or size > len(self.program.state_image) - here or size > len(old.program.state_image) - there:
                raise ValueError("outside of the rule state")
            memcpy(self.state + here, old.state + there, size)

    def inherit_tables(self, LoadedProgram old not None, places) -> None:
        """Take over private tables from the Program in force: (number here, number there) each.  Before this one is loaded."""
        for here, there in places:
            if min(here, there) < 0:
                raise IndexError("there are no tables below 0")
            self.tables[here] = old.tables[there]
            self.named[<int>here] = (<NamedHandle>self.tables[here]).table

    def counters_list(self) -> list:
        """(packets, bytes) by counter number, summed over the threads."""
        cdef const ProgramHeader* header = self.views[0].program
        cdef uint32_t i, n = header.n_counters
        cdef uint64_t packets, size
        cdef int t
        out = []
        for i in range(n):
            packets = size = 0
            for t in range(self.threads):
                packets += self.counters[t * <size_t>self.room + i].packets
                size += self.counters[t * <size_t>self.room + i].bytes
            out.append((packets, size))
        return out


cdef class Shared:
    """What the engines of one firewall have in common besides the flow table: packets between two hooks, ICMP rate limits.

    threads: how many engines there will be, 1 to limits.QUEUES_MAX.  With 1 nothing is locked.
    """

    def __cinit__(self, int threads=1):
        if not 1 <= threads <= INFLIGHT_THREADS:
            raise ValueError(f"{threads} queue threads: not within 1 to {INFLIGHT_THREADS}")
        self.inflight = inflight_new(threads)
        self.icmp = <IcmpLimit*>calloc(1, sizeof(IcmpLimit))
        if self.inflight == NULL or self.icmp == NULL:
            raise MemoryError

    def __dealloc__(self):
        inflight_free(self.inflight)
        free(self.icmp)

    @property
    def in_flight(self):
        """Packets that have been accepted at one hook and not yet been seen at the next."""
        return inflight_count(self.inflight)


@cython.no_gc_clear             # held fragments give their connections back to the table when it goes
cdef class Engine:
    """One queue thread's engine.  Live, replay, pytest and the oracle call this same code.

    table: the ConntrackTable (shared by the threads).  host: a Host block (host.py), or None.  thread: its number, which
    counters it writes.  ring_bytes: room for log and trace records.  shared: what it has in common with the engines of the
    other threads; None: it is alone.  flow_cache: whether known flows remember what they met
    (_paths.pxd); None = unless the environment says NFQFW_FLOW_CACHE=0.  It changes nothing but time.  seed: of its random
    numbers, for tests; 0 = another for each.
    """

    def __cinit__(self, ConntrackTable table not None, host=None, int thread=0, uint32_t attached=0x1f, size_t ring_bytes=1 << 22, Shared shared=None, flow_cache=None,
                  uint64_t seed=0):
        cdef EngineState* e = <EngineState*>calloc(1, sizeof(EngineState))
        self.state = e
        if e == NULL:
            raise MemoryError
        self.thread = thread
        self.hosts = []
        self.released = []
        self.table = table
        e.conntrack = table.handle
        e.c.conns = &e.conntrack.table
        e.c.random = seed if seed else <uint64_t>0x9E3779B97F4A7C15 ^ <uint64_t><size_t>e
        self.shared = shared or Shared()
        e.inflight = self.shared.inflight
        e.icmp = self.shared.icmp
        if shared is not None and not 0 <= thread < <int>e.inflight.threads:
            raise ValueError(f"thread {thread} of {e.inflight.threads}")
        e.thread = <uint8_t>thread if shared is not None else 0
        e.serial = <uint32_t>e.thread << 26                 # numbers of traced packets
        e.releasable = 0xffffffff
        e.outbox = <Outbox*>calloc(1, sizeof(Outbox))
        e.ring = <Ring*>calloc(1, sizeof(Ring))
        if e.outbox == NULL or e.ring == NULL or not ring_init(e.ring, ring_bytes):
            raise MemoryError
        e.defrag = defrag_new(e.conntrack, QUEUE_LENGTH // 8)
        if e.defrag == NULL:
            raise MemoryError
        e.c.ring = e.ring
        e.paths = <PathTable*>calloc(1, sizeof(PathTable))
        if e.paths == NULL:
            raise MemoryError
        if os.environ.get("NFQFW_FLOW_CACHE") != "0" if flow_cache is None else flow_cache:
            e.paths.room = PATHS
        e.attached = e.next_attached = attached
        if host is not None:
            self.set_host(host)
            e.c.host = <const HostHeader*>e.next_host
        self.gate.batch = engine_batch
        self.gate.idle = engine_idle
        self.gate.engine = e
        self.gate.outbox = e.outbox
        self.gate.sender = &e.sender

    def __dealloc__(self):
        if self.state != NULL:
            if self.state.defrag != NULL:
                defrag_free(self.state.defrag)
            free(self.state.outbox)
            free(self.state.paths)
            if self.state.ring != NULL:
                ring_free(self.state.ring)
                free(self.state.ring)
            free(self.state)

    def door(self):
        """The transport's way in: a capsule of the EngineDoor struct.  The Engine must outlive its use."""
        return PyCapsule_New(&self.gate, "nfqfw.EngineDoor", NULL)

    def load(self, LoadedProgram loaded not None):
        """Hand over a Program; the thread takes it up at its next batch boundary.

        ValueError: it is for fewer threads.  NfqfwError: a rule names a time-out policy that the flow table does not have (who has run
        rules.check with the table's policies does not meet it).
        """
        if not 0 <= self.thread < loaded.threads:
            raise ValueError(f"a Program for {loaded.threads} threads, given to the engine of thread {self.thread}")
        for name in loaded.program.policies:
            if TimeoutPolicies(self.table).get(name) is None:
                raise NfqfwError(f'no such timeout policy "{name}"', f"nfct add timeout {name} ...")
        if any("acct" in names for names in loaded.program.features.values()):
            self.table.set("nf_conntrack_acct", 1)      # as the kernel does when the first connbytes rule comes
        self.older, self.loaded = self.loaded, loaded
        store_view(&self.state.next, loaded.view(self.thread))

    def set_host(self, block):
        """Hand over a Host block (bytes); taken up at the next batch boundary.  The latest blocks are kept alive.

        ValueError: it is not one.
        """
        cdef bytes kept = host_block(block)
        self.hosts = [*self.hosts[-HOSTS_KEPT:], kept]
        store_host(&self.state.next_host, <const void*><const char*>kept)
        store_serial(&self.state.host_serial, self.state.host_serial + 1)      # after the block: who sees it sees that too

    def set_attached(self, uint32_t hooks):
        """Which hooks are queued to us (bit 1 << Hook): decides what a crossing runs.  Taken up at the next batch boundary."""
        self.state.next_attached = hooks

    def set_trace(self, bint on):
        """Trace every packet from the next batch on."""
        self.state.trace_all = on

    def process(self, packets, uint64_t now=0, int64_t wall=0) -> list:
        """Judge PacketIns, each as a batch of its own; the list of their Decisions."""
        return [self.one(packet, now, wall) for packet in packets]

    def one(self, packet, uint64_t now=0, int64_t wall=0):
        """One crossing as a batch of its own.  now: CLOCK_MONOTONIC ns, wall: CLOCK_REALTIME ns."""
        cdef Packet p
        cdef uint8_t* copy = take_in(&p, packet)
        try:
            with nogil:
                engine_batch(self.state, &p, 1, now, wall)
            self.collect()
            payload = (<const char*>p.data)[:p.len] if p.dirty & DIRTY_PAYLOAD else None
            return Decision(p.verdict, p.reason, p.mark, p.priority, payload, p.ctinfo, p.conn, p.dirty)
        finally:
            free(copy)

    def drive(self, packets, int repeat=1, uint32_t batch=64, uint64_t now=0, uint64_t step_ns=0) -> dict:
        """Judge PacketIns over and over in batches, without Python in between: for benchmarks and floods.

        Meant for rulesets that rewrite nothing.  Time advances by step_ns per batch; replies and
        released packets are thrown away, the in-flight table is emptied after each batch.  Returns `ns` (of engine_batch
        alone), `packets` and the verdicts.
        """
        cdef uint32_t n = len(packets), i, at, size
        cdef int round_
        cdef uint64_t spent = 0, started
        cdef Packet* fresh = <Packet*>calloc(max(1, n), sizeof(Packet))
        cdef Packet* work = <Packet*>calloc(max(1, batch), sizeof(Packet))
        before = self.stats()
        try:
            if batch == 0:
                raise ValueError("batches of no packets")
            if fresh == NULL or work == NULL:
                raise MemoryError
            for i in range(n):
                take_in(&fresh[i], packets[i])
            with nogil:
                for round_ in range(repeat):
                    at = 0
                    while at < n:
                        size = batch if n - at > batch else n - at
                        memcpy(work, fresh + at, size * sizeof(Packet))
                        started = monotonic_ns()
                        engine_batch(self.state, work, size, now, <int64_t>now)
                        spent += monotonic_ns() - started
                        self.state.outbox.n_packets = 0
                        self.state.outbox.n_redirected = 0
                        self.state.outbox.n_released = 0
                        if self.state.inflight.count:
                            engine_idle(self.state, now)
                        at += size
                        now += step_ns
        finally:
            for i in range(n if fresh != NULL else 0):
                free(fresh[i].data)
            free(fresh)
            free(work)
        after = self.stats()
        return {"ns": spent, "packets": n * repeat, "accepted": after["accepted"] - before["accepted"],
                "dropped": after["dropped"] - before["dropped"]}

    def idle(self, uint64_t now=0):
        """Tell the engine that nothing more of what was sent will come back (see engine_idle)."""
        with nogil:
            engine_idle(self.state, now)
        self.collect()

    cdef collect(self):
        """Copy what was released: its bytes are the engine's only until its next call."""
        cdef uint32_t i
        box = self.state.outbox
        for i in range(box.n_released):
            r = &box.released[i]
            data = (<const char*>r.data)[:r.len] if r.dirty & DIRTY_PAYLOAD else None
            self.released.append((r.id, r.verdict, data, r.mark, r.reason))
        box.n_released = 0

    def take_replies(self) -> list:
        """Replies of ours since the last call: (family, bytes, ifindex).  For tests and replay; a live transport sends them."""
        cdef uint32_t i
        box = self.state.outbox
        out = [(box.packets[i].family, (<const char*>box.packets[i].data)[:box.packets[i].len], box.packets[i].ifindex)
               for i in range(box.n_packets)]
        box.n_packets = 0
        return out

    def take_released(self) -> list:
        """Held packets decided since the last call, in order: (id, verdict, data or None, mark, reason)."""
        self.collect()
        out, self.released = self.released, []
        return out

    def take_records(self, uint32_t most=1 << 30) -> list:
        """Log and trace records since the last call, oldest first, as bytes (see _trace.pxd).  Any one thread may call it."""
        return ring_drain(self.state.ring, most)

    def stats(self) -> dict:
        """Totals since the start: crossings, bytes, verdicts, drops of ours by reason, replies by outcome."""
        cdef Stats* s = &self.state.stats
        cdef Defrag* d = self.state.defrag
        fallen = sum([d.drops[i] for i in range(len(REASONS))])         # held fragments whose datagram ended
        return {
            "packets": s.packets, "bytes": s.bytes,
            "accepted": s.verdicts[<int>ACCEPT], "dropped": s.verdicts[<int>DROP] + fallen, "held": s.verdicts[<int>HELD],
            "drops": {name: s.drops[i] + d.drops[i] for i, name in enumerate(REASONS) if i and s.drops[i] + d.drops[i]},
            "rejects": {name: s.rejects[i] for i, name in enumerate(REJECTS) if s.rejects[i]},
            "refused_by_kernel": s.refused, "in_flight": self.shared.in_flight if self.state.thread == 0 else 0,
            "fragments": {"held": self.state.defrag.held, "datagrams": self.state.defrag.datagrams,
                          "bytes": self.state.defrag.bytes, "reassembled": self.state.defrag.reassembled,
                          "failed": self.state.defrag.failed, "timed_out": self.state.defrag.timed_out},
            "from_memory": self.state.paths.hits, "paths": self.state.paths.used,
            "reject_outbox_full": self.state.outbox.full, "records_dropped": self.state.ring.dropped,
        }

    @property
    def in_flight(self):
        """Packets between two hooks, of all engines that share with this one."""
        return self.shared.in_flight

    @property
    def program(self):
        return None if self.loaded is None else self.loaded.program


def engines(table, host, int threads, **options) -> list:
    """The engines of one firewall, one per queue thread; options as Engine's."""
    shared = Shared(threads)
    return [Engine(table, host, thread=number, shared=shared, **options) for number in range(threads)]
