"""The engine: a batch of packets in, decisions out.

Overview.  Every packet crosses one or more hooks.  A crossing runs every step of the packet's path that it has not yet
run: its own hook's, those of hooks before it that are not attached, and those of POSTROUTING when that is not attached.
What was run is remembered in an in-flight record (see _inflight.pxd) until the next crossing.  The steps of a hook are a
table (_steps.pxd); a step is a table of rules (run by _fastpath), or connection tracking, or its confirmation.

The engine owns no socket, no thread and no clock: time comes with the batch, effects go out through the Outbox (replies,
released packets) and the Ring (log and trace records).  The half of this file above the line is `noexcept nogil` and never
raises; the Python door below it converts, calls and converts back.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from nfqfw._conn cimport CONFIRMED, DST_NAT_DONE, REPLY, SRC_NAT_DONE, direction_of
from nfqfw._conntrack cimport (Conntrack, ConntrackTable, conntrack_confirm, conntrack_expire, conntrack_hold, conntrack_in,
                               conntrack_release)
from nfqfw._defrag cimport (FRAG_DROP, FRAG_PASS, FRAG_WHOLE, Datagram, Defrag, Fragment, defrag_add, defrag_bury, defrag_expire,
                            defrag_free, defrag_new, defrag_release)
from nfqfw._fastpath cimport OUTCOME_HOTDROP, OUTCOME_REJECT, OUTCOME_STACK, run_chain
from nfqfw._host cimport HostHeader, Interface, interface_by_index
from nfqfw._inflight cimport (INFLIGHT_MAX, InFlight, InFlightTable, inflight_init, inflight_key, inflight_take,
                              inflight_take_oldest, inflight_write)
from nfqfw._outbox cimport EngineDoor, Outbox, OutPacket
from nfqfw._packet cimport *
from nfqfw._parse cimport parse
from nfqfw._program cimport (FILTER, MANGLE, NAT, NEEDS_CONNTRACK, NEEDS_DEFRAG, NO_CHAIN, RAW, SECURITY, Context, Counter, ProgramHeader,
                             family_index)
from nfqfw._record cimport record_packet, trace
from nfqfw._reject cimport REJECT_SENT, IcmpLimit, reject
from nfqfw._ring cimport Ring, ring_drain, ring_free, ring_init
from nfqfw._steps cimport (STEP_CONFIRM, STEP_CONNTRACK, STEP_DEFRAG, STEP_DNAT, STEP_END, STEP_FILTER, STEP_MANGLE, STEP_RAW,
                           STEP_SECURITY, STEP_SNAT, steps_of)
from nfqfw._trace cimport (NO_TEST, RECORD_PACKET, TRACE_CONFIRM, TRACE_CONNTRACK, TRACE_DEFRAG, TRACE_END, TRACE_REJECT)

from nfqfw.limits import QUEUE_LENGTH
from nfqfw.packets import Decision
from nfqfw.reasons import REASONS

cdef extern from *:
    """
    #define nfqfw_load(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
    #define nfqfw_store(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
    """
    ProgramView* load_view "nfqfw_load"(ProgramView** at) nogil
    void store_view "nfqfw_store"(ProgramView** at, ProgramView* view) nogil
    const void* load_host "nfqfw_load"(const void** at) nogil
    void store_host "nfqfw_store"(const void** at, const void* host) nogil

cdef enum:
    IFF_LOOPBACK = 8
    GONE = 0                    # run_* answers: the packet is decided (p.verdict)
    ON = 1                      # run_* answers: go on with the next step
    EXPIRE_BUDGET = 64          # entries looked at per batch
    HOSTS_KEPT = 16             # Host blocks kept alive: more changes than can come during one batch


# ---- one step ---------------------------------------------------------------------------------------------------------

cdef inline bint drop(Packet* p, uint8_t reason) noexcept nogil:
    p.verdict = DROP
    p.reason = reason
    return GONE


cdef void send_reject(EngineState* e, Packet* p) noexcept nogil:
    """Queue the reply of a REJECT rule, and write the record by which it is known when it crosses OUTPUT.

    The reply inherits the rejected packet's connection, unconfirmed or not: it is RELATED in the reply direction, as the
    kernel's nf_ct_attach makes it.
    """
    cdef uint8_t kind = e.c.data[e.c.effect]
    cdef uint32_t outcome = reject(p, kind, &e.c, e.outbox, e.icmp), proto, thoff
    cdef OutPacket* reply
    cdef uint64_t key, check
    cdef InFlight* r
    e.stats.rejects[outcome] += 1
    if p.trace:
        trace(&e.c, p, TRACE_REJECT, NO_CHAIN, e.c.rule, NO_TEST, outcome)
    if outcome != REJECT_SENT or not (e.attached >> OUTPUT) & 1:
        return
    reply = &e.outbox.packets[e.outbox.n_packets - 1]
    thoff = 20 if reply.family == IPV4 else 40
    proto = reply.data[9] if reply.family == IPV4 else reply.data[6]
    inflight_key(reply.data, reply.len, reply.family, thoff, <uint8_t>proto, True, &key, &check)
    r = inflight_write(e.inflight, key, check)
    if r == NULL:
        return
    fill_record(r, p)
    r.own = 1
    r.done = 0
    e.inflight.own_count += 1
    if p.conn:
        conntrack_hold(e.conntrack, p.conn)
        r.ctinfo = CT_RELATED_REPLY if direction_of(p.ctinfo) != REPLY else CT_RELATED


cdef inline void fill_record(InFlight* r, const Packet* p) noexcept nogil:
    r.conn = p.conn
    r.secmark = p.secmark
    r.serial = p.serial
    r.ctinfo = p.ctinfo
    r.done = p.step
    r.trace = p.trace
    r.zone = p.zone
    r.zone_dir = p.zone_dir


cdef inline bint run_table(EngineState* e, Packet* p, uint32_t table) noexcept nogil:
    """Walk the table's chain of the current hook."""
    cdef uint32_t chain = e.c.program.base[family_index(p.family)][table][e.c.hook], outcome
    if chain == NO_CHAIN:
        return ON
    e.c.table = table
    e.c.hotdrop = 0
    outcome = run_chain(&e.c, p, chain)
    if outcome == ACCEPT:
        return ON
    if outcome == DROP:
        return drop(p, REASON_NONE)
    if outcome == OUTCOME_REJECT:
        send_reject(e, p)
        return drop(p, REASON_REJECTED)
    if outcome == OUTCOME_HOTDROP:
        return drop(p, REASON_HOTDROP)
    if outcome == OUTCOME_STACK:
        return drop(p, REASON_STACK)
    p.verdict = <uint8_t>outcome
    return GONE


cdef inline bint run_conntrack(EngineState* e, Packet* p) noexcept nogil:
    """Track the packet once: one that carries its connection (loopback, a reply of ours) or is UNTRACKED stays as it is."""
    if not e.c.program.features[family_index(p.family)] & NEEDS_CONNTRACK:
        return ON
    if p.conn == 0 and p.ctinfo != CT_UNTRACKED:
        p.verdict = ACCEPT
        conntrack_in(e.conntrack, p, e.c.now, &e.c)
        if p.verdict == DROP:
            return GONE
    if p.trace:
        trace(&e.c, p, TRACE_CONNTRACK, NO_CHAIN, p.conn, e.conntrack.table.hot[p.conn].status if p.conn else 0, p.ctinfo)
    return ON


cdef inline bint run_nat(EngineState* e, Packet* p, uint32_t done) noexcept nogil:
    """The nat table's chain of this hook, for the first packet of a connection only (null binding when no rule acts)."""
    cdef uint32_t* status
    if p.conn == 0 or p.ctinfo == CT_UNTRACKED or e.c.program.base[family_index(p.family)][<uint32_t>NAT][e.c.hook] == NO_CHAIN:
        return ON
    status = &e.conntrack.table.hot[p.conn].status
    if status[0] & done or p.ctinfo == CT_ESTABLISHED or p.ctinfo == CT_ESTABLISHED_REPLY:
        return ON
    if run_table(e, p, NAT) == GONE:
        return GONE
    status[0] |= done
    return ON


cdef inline bint run_confirm(EngineState* e, Packet* p) noexcept nogil:
    """The last step: an unconfirmed connection becomes one that others see."""
    cdef uint8_t reason
    if p.conn == 0 or p.ctinfo == CT_UNTRACKED or e.conntrack.table.hot[p.conn].status & CONFIRMED:
        return ON
    if direction_of(p.ctinfo) == REPLY:
        return ON
    reason = <uint8_t>conntrack_confirm(e.conntrack, p, e.c.now)
    if p.trace:
        trace(&e.c, p, TRACE_CONFIRM, NO_CHAIN, p.conn, NO_TEST, reason)
    return drop(p, reason) if reason else ON


cdef bint run_step(EngineState* e, Packet* p, uint8_t step) noexcept nogil:
    if step == STEP_RAW:
        return run_table(e, p, RAW)
    if step == STEP_CONNTRACK:
        return run_conntrack(e, p)
    if step == STEP_MANGLE:
        return run_table(e, p, MANGLE)
    if step == STEP_DNAT:
        return run_nat(e, p, DST_NAT_DONE)
    if step == STEP_FILTER:
        return run_table(e, p, FILTER)
    if step == STEP_SECURITY:
        return run_table(e, p, SECURITY)
    if step == STEP_SNAT:
        return run_nat(e, p, SRC_NAT_DONE)
    if step == STEP_CONFIRM:
        return run_confirm(e, p)
    return ON


# ---- one crossing -----------------------------------------------------------------------------------------------------

cdef bint run_hook(EngineState* e, Packet* p, uint8_t hook) noexcept nogil:
    """Run the steps of one hook, seen as the kernel shows it there: devices by hook, hop count before forwarding."""
    cdef const uint8_t* step = steps_of(hook)
    cdef bint early = hook == PREROUTING and p.hook == FORWARD
    cdef bint going = ON
    e.c.hook = hook
    e.c.iif = NULL if hook == OUTPUT else interface_by_index(e.c.host, p.ifin)
    e.c.oif = NULL if hook == PREROUTING or hook == INPUT else interface_by_index(e.c.host, p.ifout)
    if early:
        p.ttl += 1
    while step[0] != STEP_END and going:
        going = run_step(e, p, step[0])
        step += 1
    if early:
        p.ttl -= 1
    p.step |= 1 << hook
    return going


cdef inline uint32_t path_before(const EngineState* e, const Packet* p) noexcept nogil:
    """Hooks that a packet seen at p.hook has behind it on its path, one bit each."""
    if p.hook == INPUT or p.hook == FORWARD:
        return 1 << PREROUTING
    if p.hook == POSTROUTING:
        return (1 << PREROUTING) | (1 << FORWARD) if p.ifin else 1 << OUTPUT
    return 0


cdef inline bint run_crossing(EngineState* e, Packet* p) noexcept nogil:
    """Every step of the path up to here that was not run, and POSTROUTING's when it is not attached."""
    cdef uint32_t before = path_before(e, p), hook
    for hook in range(OUTPUT + 1):
        if (before >> hook) & 1 and not (p.step >> hook) & 1 and run_hook(e, p, <uint8_t>hook) == GONE:
            return GONE
    if run_hook(e, p, p.hook) == GONE:
        return GONE
    if (p.hook == FORWARD or p.hook == OUTPUT) and not (e.attached >> POSTROUTING) & 1:
        return run_hook(e, p, POSTROUTING)
    return ON


cdef inline bint crosses_again(const EngineState* e, const Packet* p) noexcept nogil:
    """True when an accepted packet will be queued to us once more."""
    cdef const Interface* oif
    if p.hook == PREROUTING:
        return (e.attached & ((1 << INPUT) | (1 << FORWARD))) != 0
    if (p.step >> POSTROUTING) & 1:
        if p.ifout == 0 or not e.attached & ((1 << PREROUTING) | (1 << INPUT)):
            return False
        oif = interface_by_index(e.c.host, p.ifout)
        return oif != NULL and (oif.flags & IFF_LOOPBACK) != 0
    return p.hook == FORWARD or p.hook == OUTPUT


cdef inline void recall(EngineState* e, Packet* p) noexcept nogil:
    """What we know of a packet from an earlier crossing, if anything."""
    cdef uint64_t key, check
    cdef InFlight r
    cdef uint8_t hook = p.hook
    p.conn = 0
    p.ctinfo = CT_INVALID
    p.step = 0
    p.own = 0
    p.zone = p.zone_dir = 0
    p.secmark = 0
    p.trace = e.trace_all
    if e.inflight.count == 0:
        e.serial += 1
        p.serial = e.serial
        return
    inflight_key(p.data, p.len, p.family, p.thoff if p.flags & HAS_L4 else 0, p.proto, False, &key, &check)
    if not inflight_take(e.inflight, key, check, False, hook, &r):
        if not (hook == OUTPUT and e.inflight.own_count and take_own(e, p, &r)):
            e.serial += 1
            p.serial = e.serial
            return
    p.conn = r.conn
    p.ctinfo = r.ctinfo
    p.step = r.done
    p.own = r.own
    p.zone = r.zone
    p.zone_dir = r.zone_dir
    p.secmark = r.secmark
    p.serial = r.serial
    p.trace = r.trace | e.trace_all
    if r.own:
        e.serial += 1
        p.serial = e.serial


cdef inline bint take_own(EngineState* e, Packet* p, InFlight* r) noexcept nogil:
    """The record of a reply of our own: its key leaves out what the kernel fills in."""
    cdef uint64_t key, check
    inflight_key(p.data, p.len, p.family, p.thoff if p.flags & HAS_L4 else 0, p.proto, True, &key, &check)
    return inflight_take(e.inflight, key, check, True, OUTPUT, r)


cdef inline bint remember(EngineState* e, Packet* p) noexcept nogil:
    """Write the in-flight record of an accepted packet that will cross again."""
    cdef uint64_t key, check
    cdef InFlight* r
    inflight_key(p.data, p.len, p.family, p.thoff if p.flags & HAS_L4 else 0, p.proto, False, &key, &check)
    r = inflight_write(e.inflight, key, check)
    if r == NULL:
        return drop(p, REASON_INTERNAL)
    fill_record(r, p)
    if p.conn:
        conntrack_hold(e.conntrack, p.conn)
    return ON


cdef void decide(EngineState* e, Packet* p) noexcept nogil:
    """A packet or a reassembled datagram at one crossing: sets verdict, reason, dirty."""
    cdef uint32_t mark = p.mark, priority = p.priority
    p.verdict = ACCEPT
    p.reason = REASON_NONE
    p.dirty = 0
    p.ct_template = 0
    p.local = p.hook == OUTPUT or (p.step >> OUTPUT) & 1
    if p.trace:
        e.c.hook = p.hook
        record_packet(&e.c, p, RECORD_PACKET, NO_CHAIN)
    run_crossing(e, p)
    if p.mark != mark:
        p.dirty |= DIRTY_MARK
    if p.priority != priority:
        p.dirty |= DIRTY_PRIORITY
    if p.verdict == ACCEPT and crosses_again(e, p):
        remember(e, p)
    if p.trace:
        trace(&e.c, p, TRACE_END, NO_CHAIN, p.reason, NO_TEST, p.verdict)


cdef inline void let_go(EngineState* e, Packet* p) noexcept nogil:
    """The packet leaves the engine: its own reference on an unconfirmed connection ends."""
    if p.conn:
        conntrack_release(e.conntrack, p.conn)


cdef void decide_datagram(EngineState* e, Packet* whole, Datagram* q, uint32_t at) noexcept nogil:
    """Judge a reassembled datagram and release its fragments; each is remembered, for it crosses again by itself."""
    cdef Fragment* f
    if whole.conn:
        conntrack_hold(e.conntrack, whole.conn)
    decide(e, whole)
    defrag_release(e.defrag, q, whole, e.outbox, at)
    e.stats.verdicts[whole.verdict] += q.n
    e.stats.drops[whole.reason] += q.n
    if whole.verdict == ACCEPT and crosses_again(e, whole):
        f = q.first
        while f != NULL:
            f.facts.conn = whole.conn
            f.facts.ctinfo = whole.ctinfo
            f.facts.step = whole.step
            f.facts.secmark = whole.secmark
            f.facts.zone = whole.zone
            f.facts.zone_dir = whole.zone_dir
            f.facts.trace = whole.trace
            remember(e, &f.facts)
            f = f.next
    let_go(e, whole)


cdef void gather(EngineState* e, Packet* p, uint32_t at) noexcept nogil:
    """A fragment where something tracks: hold it, or judge the datagram that it completes."""
    cdef Packet whole
    cdef Datagram* q = NULL
    cdef uint32_t outcome = defrag_add(e.defrag, p, e.c.now, &whole, &q, e.outbox, at)
    if p.trace:
        trace(&e.c, p, TRACE_DEFRAG, NO_CHAIN, NO_CHAIN, NO_TEST, outcome)
    if outcome == FRAG_PASS:
        decide(e, p)
        let_go(e, p)
    elif outcome >= FRAG_DROP:
        drop(p, <uint8_t>(outcome & 0xff))
        let_go(e, p)
    else:
        p.verdict = HELD                    # its reference stays with the held copy
        if outcome == FRAG_WHOLE:
            decide_datagram(e, &whole, q, at)


cdef void judge(EngineState* e, Packet* p, uint32_t at) noexcept nogil:
    """Packet number `at` of a batch at one crossing."""
    p.reason = REASON_NONE
    p.dirty = 0
    p.release = 0
    parse(p)
    e.stats.packets += 1
    e.stats.bytes += p.total
    if p.flags & BAD_IP:
        drop(p, REASON_BAD_IP)
        return
    recall(e, p)
    if p.flags & IS_FRAGMENT and e.c.program.features[family_index(p.family)] & (NEEDS_CONNTRACK | NEEDS_DEFRAG):
        gather(e, p, at)
        return
    decide(e, p)
    let_go(e, p)


# ---- the transport's door ---------------------------------------------------------------------------------------------

cdef inline void take_up(EngineState* e) noexcept nogil:
    """A batch boundary: run what the control side has handed over since the last one."""
    cdef ProgramView* view = load_view(&e.next)
    cdef const void* host = load_host(&e.next_host)
    if view != e.view:
        e.view = view
        e.c.program = view.program
        e.c.data = <const uint8_t*>view.program + view.program.data
        e.c.state = view.state
        e.c.counters = view.counters
        e.c.stack = view.stack
    if host != <const void*>e.c.host:
        e.c.host = <const HostHeader*>host
    e.attached = e.next_attached


cdef void engine_batch(void* engine, Packet* packets, uint32_t n, uint64_t now_ns, int64_t wall_ns) noexcept nogil:
    """Judge a batch; see _outbox.pxd for the contract."""
    cdef EngineState* e = <EngineState*>engine
    cdef uint32_t i
    take_up(e)
    e.c.now = now_ns
    e.c.wall = wall_ns
    defrag_bury(e.defrag)
    if e.defrag.datagrams:
        defrag_expire(e.defrag, now_ns, e.outbox, 0)
    for i in range(n):
        judge(e, &packets[i], i)
        if packets[i].verdict != HELD:
            e.stats.verdicts[packets[i].verdict] += 1
            e.stats.drops[packets[i].reason] += 1
    conntrack_expire(e.conntrack, now_ns, EXPIRE_BUDGET)


cdef void engine_idle(void* engine, uint64_t now_ns) noexcept nogil:
    """The queue sockets were read empty after the last verdict: what is still in flight was refused by the kernel."""
    cdef EngineState* e = <EngineState*>engine
    cdef InFlight r
    take_up(e)
    defrag_bury(e.defrag)
    defrag_expire(e.defrag, now_ns, e.outbox, 0)
    while inflight_take_oldest(e.inflight, &r):
        e.stats.refused += 1
        if r.conn:
            conntrack_release(e.conntrack, r.conn)
    conntrack_expire(e.conntrack, now_ns, EXPIRE_BUDGET)


# ---- the Python door --------------------------------------------------------------------------------------------------

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


cdef class LoadedProgram:
    """A Program in memory with its counters (one set per queue thread) and rule state.

    Engines keep pointers into it: it must outlive the batch boundary at which the last of them took up another one.
    """

    def __cinit__(self, program, int threads=1):
        cdef const ProgramHeader* header
        cdef int i
        self.program = program
        self.block = program.block
        self.threads = threads
        header = <const ProgramHeader*><const char*>self.block
        self.state = <uint8_t*>calloc(max(1, len(program.state_image)), 1)
        self.counters = <Counter*>calloc(max(1, threads * header.n_counters), sizeof(Counter))
        self.views = <ProgramView*>calloc(threads, sizeof(ProgramView))
        if self.state == NULL or self.counters == NULL or self.views == NULL:
            raise MemoryError
        memcpy(self.state, <const char*>(<bytes>program.state_image), len(program.state_image))
        for i in range(threads):
            self.views[i].program = header
            self.views[i].state = self.state
            self.views[i].counters = self.counters + i * header.n_counters
            self.views[i].stack = <uint32_t*>calloc(2 * header.stack_depth + 2, sizeof(uint32_t))
            if self.views[i].stack == NULL:
                raise MemoryError

    def __dealloc__(self):
        cdef int i
        if self.views != NULL:
            for i in range(self.threads):
                free(self.views[i].stack)
        free(self.views)
        free(self.counters)
        free(self.state)

    cdef ProgramView* view(self, int thread):
        return &self.views[thread]

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
                packets += self.counters[t * n + i].packets
                size += self.counters[t * n + i].bytes
            out.append((packets, size))
        return out


cdef class Engine:
    """One queue thread's engine.  Live, replay, pytest and the oracle call this same code.

    table: the ConntrackTable (shared by the threads).  host: a Host block (host.py), or None.  thread: its number, which
    counters it writes.  ring_bytes: room for log and trace records.
    """

    def __cinit__(self, table, host=None, int thread=0, uint32_t attached=0x1f, size_t ring_bytes=1 << 22):
        cdef EngineState* e = <EngineState*>calloc(1, sizeof(EngineState))
        self.state = e
        if e == NULL:
            raise MemoryError
        self.thread = thread
        self.hosts = []
        self.table = table
        e.conntrack = (<ConntrackTable>table).handle
        e.c.conns = &e.conntrack.table
        e.c.random = <uint64_t>0x9E3779B97F4A7C15 ^ <uint64_t><size_t>e
        e.inflight = <InFlightTable*>calloc(1, sizeof(InFlightTable))
        e.outbox = <Outbox*>calloc(1, sizeof(Outbox))
        e.icmp = <IcmpLimit*>calloc(1, sizeof(IcmpLimit))
        e.ring = <Ring*>calloc(1, sizeof(Ring))
        if e.inflight == NULL or e.outbox == NULL or e.icmp == NULL or e.ring == NULL or not ring_init(e.ring, ring_bytes):
            raise MemoryError
        inflight_init(e.inflight)
        e.defrag = defrag_new(e.conntrack, QUEUE_LENGTH // 8)
        if e.defrag == NULL:
            raise MemoryError
        e.c.ring = e.ring
        e.attached = e.next_attached = attached
        if host is not None:
            self.set_host(host)
            e.c.host = <const HostHeader*>e.next_host
        self.gate.batch = engine_batch
        self.gate.idle = engine_idle
        self.gate.engine = e
        self.gate.outbox = e.outbox

    def __dealloc__(self):
        if self.state != NULL:
            if self.state.defrag != NULL:
                defrag_free(self.state.defrag)
            free(self.state.inflight)
            free(self.state.outbox)
            free(self.state.icmp)
            if self.state.ring != NULL:
                ring_free(self.state.ring)
                free(self.state.ring)
            free(self.state)

    def door(self):
        """The transport's way in: a capsule of the EngineDoor struct.  The Engine must outlive its use."""
        return PyCapsule_New(&self.gate, "nfqfw.EngineDoor", NULL)

    def load(self, LoadedProgram loaded not None):
        """Hand over a Program; the thread takes it up at its next batch boundary."""
        self.older, self.loaded = self.loaded, loaded
        store_view(&self.state.next, loaded.view(self.thread))

    def set_host(self, block):
        """Hand over a Host block (bytes); taken up at the next batch boundary.  The latest blocks are kept alive."""
        cdef bytes kept = bytes(block)
        self.hosts = [*self.hosts[-HOSTS_KEPT:], kept]
        store_host(&self.state.next_host, <const void*><const char*>kept)

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
        cdef uint8_t* copy
        cdef bytes data = packet.data
        cdef uint32_t n = len(data)
        copy = <uint8_t*>calloc(n + 64, 1)
        if copy == NULL:
            raise MemoryError
        memcpy(copy, <const char*>data, n)
        memset(&p, 0, sizeof(Packet))
        p.data = copy
        p.len = n
        p.capacity = n + 64
        p.total = packet.total or n
        p.id = packet.id
        p.family = packet.family
        p.hook = packet.hook
        p.ifin = packet.ifin
        p.ifout = packet.ifout
        p.physin = packet.physin
        p.physout = packet.physout
        p.mark = packet.mark
        p.priority = packet.priority
        p.skbinfo = packet.skbinfo
        facts(&p, packet)
        try:
            with nogil:
                engine_batch(self.state, &p, 1, now, wall)
            payload = (<const char*>p.data)[:p.len] if p.dirty & DIRTY_PAYLOAD else None
            return Decision(p.verdict, p.reason, p.mark, p.priority, payload, p.ctinfo, p.conn, p.dirty)
        finally:
            free(copy)

    def idle(self, uint64_t now=0):
        """Tell the engine that nothing more of what was sent will come back (see engine_idle)."""
        with nogil:
            engine_idle(self.state, now)

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
        cdef uint32_t i
        box = self.state.outbox
        out = []
        for i in range(box.n_released):
            r = &box.released[i]
            data = (<const char*>r.data)[:r.len] if r.dirty & DIRTY_PAYLOAD else None
            out.append((r.id, r.verdict, data, r.mark, r.reason))
        box.n_released = 0
        return out

    def take_records(self, uint32_t most=1 << 30) -> list:
        """Log and trace records since the last call, oldest first, as bytes (see _trace.pxd).  Any one thread may call it."""
        return ring_drain(self.state.ring, most)

    def stats(self) -> dict:
        """Totals since the start: crossings, bytes, verdicts, drops of ours by reason, replies by outcome."""
        cdef Stats* s = &self.state.stats
        return {
            "packets": s.packets, "bytes": s.bytes,
            "accepted": s.verdicts[<int>ACCEPT], "dropped": s.verdicts[<int>DROP], "held": s.verdicts[<int>HELD],
            "drops": {name: s.drops[i] for i, name in enumerate(REASONS) if i and s.drops[i]},
            "rejects": {name: s.rejects[i] for i, name in enumerate(REJECTS) if s.rejects[i]},
            "refused_by_kernel": s.refused, "in_flight": self.state.inflight.count,
            "fragments": {"held": self.state.defrag.held, "datagrams": self.state.defrag.datagrams,
                          "bytes": self.state.defrag.bytes, "reassembled": self.state.defrag.reassembled,
                          "failed": self.state.defrag.failed, "timed_out": self.state.defrag.timed_out},
            "reject_outbox_full": self.state.outbox.full, "records_dropped": self.state.ring.dropped,
        }

    @property
    def program(self):
        return None if self.loaded is None else self.loaded.program


REJECTS = ("sent", "fragment", "bad_checksum", "not_unicast", "of_error", "short", "rate_limited", "outbox_full")
