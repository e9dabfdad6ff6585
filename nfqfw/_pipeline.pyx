"""The engine: a batch of packets in, decisions out.

Overview.  Every packet crosses one or more hooks.  A crossing runs every step of the packet's path that it has not yet
run: its own hook's, those of hooks before it that are not attached, and those of POSTROUTING when that is not attached.
What was run is remembered in an in-flight record (see _inflight.pxd) until the next crossing.  The steps of a hook are a
table (_steps.pxd); a step is a table of rules (run by _fastpath), or connection tracking, or its confirmation.

The engine owns no socket, no thread and no clock: time comes with the batch, effects go out through the Outbox (replies,
released packets) and the Ring (log and trace records).  Everything here is `noexcept nogil` and never raises; the Python
door is _engine.pyx.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from nfqfw._atomic cimport give_way, load32
from nfqfw._conn cimport CONFIRMED, CONN_EVENT, DST_NAT, DST_NAT_DONE, REPLY, SRC_NAT, SRC_NAT_DONE, ConnHot, Tuple, direction_of, read_tuple
from nfqfw._conntrack cimport (conntrack_close, conntrack_confirm, conntrack_expire, conntrack_hold, conntrack_in,
                               conntrack_path_numbers, conntrack_prefetch_bucket, conntrack_prefetch_entry, conntrack_prefetch_more,
                               conntrack_release, conntrack_remember)
from nfqfw._defrag cimport (FRAG_DROP, FRAG_PASS, FRAG_WHOLE, Datagram, Defrag, Fragment, defrag_add, defrag_bury, defrag_expire,
                            defrag_free, defrag_new, defrag_release, leaves_whole)
from nfqfw._fastpath cimport OUTCOME_HOTDROP, OUTCOME_NAT, OUTCOME_REJECT, OUTCOME_STACK, look_ahead, run_chain
from nfqfw._host cimport HostHeader, Interface, interface_by_index
from nfqfw._inflight cimport (NOT_OWN, OWN_SENT, OWN_UNSENT, STRIPES, InFlight, InFlightTable, inflight_key, inflight_piece_key,
                              inflight_prefetch_bucket, inflight_prefetch_record, inflight_refused, inflight_take, inflight_write,
                              next_generation, pieces_note, pieces_seen, progress_boundary, progress_sent)
from nfqfw._nat cimport NatInfo, manip_of_hook, nat_packet, nat_setup
from nfqfw._outbox cimport EngineDoor, Outbox, OutPacket, Redirected, new_redirected
from nfqfw._packet cimport *
from nfqfw._parse cimport parse
from nfqfw._paths cimport (OP_CONFIRM, OP_NAT, PATHS, READS_CONNMARK, READS_PACKET, READS_TCP_FLAGS, REFRESH_NS, TAPE_OPS, Path,
                           PathTable, Tape, path_before, path_find, path_key, path_keep, rememberable, tape_op)
from nfqfw._program cimport (FILTER, MANGLE, NAT, NEEDS_CONNTRACK, NEEDS_DEFRAG, NO_CHAIN, RAW, SECURITY, Context, Counter, ProgramHeader,
                             family_index)
from nfqfw._receive cimport refused_on_receipt
from nfqfw._record cimport record_packet, trace
from nfqfw._reject cimport REJECT_SENT, TCP_RESET_V4, TCP_RESET_V6, IcmpLimit, reject
from nfqfw._rewrite cimport rewrite_finish
from nfqfw._ring cimport Ring, ring_drain, ring_free, ring_init, ring_put
from nfqfw._steps cimport (STEP_CONFIRM, STEP_CONNTRACK, STEP_DEFRAG, STEP_DNAT, STEP_END, STEP_FILTER, STEP_MANGLE, STEP_RAW,
                           STEP_SECURITY, STEP_SNAT, steps_of)
from nfqfw._trace cimport (NO_TEST, RECORD_PACKET, RECORD_REDIRECTED, TRACE_CONFIRM, TRACE_CONNTRACK, TRACE_DEFRAG, TRACE_END, TRACE_NAT,
                           TRACE_REJECT)

cdef extern from *:
    """
    #define nfqfw_load(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
    """
    ProgramView* load_view "nfqfw_load"(ProgramView** at) nogil
    const void* load_host "nfqfw_load"(const void** at) nogil
    uint64_t load_serial "nfqfw_load"(uint64_t* at) nogil

cdef enum:
    IFF_LOOPBACK = 8
    GONE = 0                    # run_* answers: the packet is decided (p.verdict)
    ON = 1                      # run_* answers: go on with the next step
    DONE = 2                    # run_* answers: accepted, and the rest of the crossing has been run from memory
    WAIT_TURNS = 1 << 20        # times a thread gives its time slice away for another one's send, a second at most
    EXPIRE_BUDGET = 64          # entries looked at when the socket is empty,
    EXPIRE_NS = 1000000         # at most so often; live, the worker's housekeeping looks at all of them once a second


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
    cdef uint32_t batch
    cdef InFlight r
    e.stats.rejects[outcome] += 1
    if outcome == REJECT_SENT and kind == (TCP_RESET_V4 if p.family == IPV4 else TCP_RESET_V6):
        conntrack_close(e.conntrack, p.conn, e.c.now)
    if p.trace:
        trace(&e.c, p, TRACE_REJECT, NO_CHAIN, e.c.rule, NO_TEST, outcome)
    if outcome != REJECT_SENT or not (e.attached >> OUTPUT) & 1:
        return
    reply = &e.outbox.packets[e.outbox.n_packets - 1]
    thoff = 20 if reply.family == IPV4 else 40
    proto = reply.data[9] if reply.family == IPV4 else reply.data[6]
    inflight_key(reply.data, reply.len, reply.family, thoff, <uint8_t>proto, True, &r.key, &r.check)
    fill_record(e, &r, p)
    r.own = OWN_UNSENT
    r.done = 0
    r.zone = 0                              # the rejected packet's was for it alone
    r.traced_zone_dir &= 1
    if p.conn == 0:
        # tracked like any other; and to the raw table a reply to an UNTRACKED packet has something attached (no connection)
        r.ctinfo = CT_RELATED_REPLY if p.ctinfo == CT_UNTRACKED else CT_INVALID
    else:
        r.ctinfo = CT_RELATED_REPLY if direction_of(p.ctinfo) != REPLY else CT_RELATED
    if inflight_write(e.inflight, &r, NULL, &batch) and p.conn:
        conntrack_hold(e.conntrack, p.conn)


cdef inline void fill_record(EngineState* e, InFlight* r, const Packet* p) noexcept nogil:
    r.own = OWN_SENT if p.own else NOT_OWN
    r.writer = e.thread
    r.conn = p.conn
    r.life = p.life
    r.secmark = p.secmark
    r.serial = p.serial
    r.ctinfo = p.ctinfo
    r.done = p.step
    r.traced_zone_dir = <uint8_t>((p.trace != 0) | (p.zone_dir << 1))
    r.zone = p.zone
    r.ttl = p.ttl
    r.mark = p.mark


cdef bint run_table(EngineState* e, Packet* p, uint32_t table) noexcept nogil:
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
        return drop(p, p.reason)            # set by a target that could not edit the packet
    if e.c.tape != NULL:
        e.c.tape.reads |= READS_PACKET      # an effect outside the rules: not to be had from memory
    if outcome == OUTCOME_NAT:
        return run_mapping(e, p, <const NatInfo*>(e.c.data + e.c.effect))
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


cdef bint run_mapping(EngineState* e, Packet* p, const NatInfo* info) noexcept nogil:
    """Bind the end of p's connection that the NAT of this hook changes; NULL: no rule spoke."""
    cdef uint32_t manip = manip_of_hook(e.c.hook)
    cdef uint8_t reason = nat_setup(e.conntrack, p, info, manip, &e.c)
    if p.trace and info != NULL and not reason:
        trace(&e.c, p, TRACE_NAT, NO_CHAIN, p.conn, NO_TEST, manip)
    return drop(p, reason) if reason else ON


cdef inline bint needs_binding(const Packet* p, const ConnHot* hot, uint32_t done) noexcept nogil:
    """The nat table is asked for the first packet of a connection, and never for ICMP errors about it."""
    if hot.status & done or (p.ctinfo != CT_NEW and p.ctinfo != CT_RELATED and p.ctinfo != CT_RELATED_REPLY):
        return False
    return p.ctinfo == CT_NEW or not p.flags & HAS_L4 or p.proto != (1 if p.family == IPV4 else 58)


cdef inline bint run_nat(EngineState* e, Packet* p, uint32_t done) noexcept nogil:
    """NAT at one hook: the nat table for the first packet (null binding when no rule acts), translation for every one."""
    cdef bint table = e.c.program.base[family_index(p.family)][<uint32_t>NAT][e.c.hook] != NO_CHAIN
    cdef uint8_t dirty = p.dirty, reason
    cdef ConnHot* hot
    if p.conn == 0 or p.ctinfo == CT_UNTRACKED:
        return ON
    hot = &e.conntrack.table.hot[p.conn]
    if table and needs_binding(p, hot, done):
        if e.c.tape != NULL:
            e.c.tape.reads |= READS_PACKET
        if run_table(e, p, NAT) == GONE:
            return GONE
        if not hot.status & done and run_mapping(e, p, NULL) == GONE:
            return GONE
    if not hot.status & (SRC_NAT | DST_NAT) and not (table and (p.ctinfo == CT_RELATED or p.ctinfo == CT_RELATED_REPLY)):
        return ON                           # errors are tested for their checksum all the same, as the kernel's NAT does
    if e.c.tape != NULL:
        tape_op(e.c.tape, OP_NAT | e.c.hook)
    reason = nat_packet(e.conntrack, p, manip_of_hook(e.c.hook), &e.c)
    if reason:
        return drop(p, reason)
    if p.trace and p.dirty != dirty:
        record_packet(&e.c, p, RECORD_PACKET, NO_CHAIN)         # a second one within a walk: what the packet is now
    return ON


cdef inline bint stays_here(EngineState* e, const Packet* p) noexcept nogil:
    """The packet is delivered to this host: it is at INPUT, or leaves by the loopback device."""
    return e.c.hook == INPUT or (e.c.oif != NULL and (e.c.oif.flags & IFF_LOOPBACK) != 0)


cdef void tell_redirected(EngineState* e, Packet* p) noexcept nogil:
    """Have the kernel know where a connection that NAT brought here meant to go (SO_ORIGINAL_DST: TCP and SCTP)."""
    cdef Redirected* r
    cdef Tuple tuple
    cdef uint32_t direction
    if (p.proto != 6 and p.proto != 132) or not stays_here(e, p):
        return
    r = new_redirected(e.outbox)
    if r == NULL:
        return
    memset(r, 0, sizeof(Redirected))
    r.kind = RECORD_REDIRECTED
    r.family = p.family
    r.proto = p.proto
    r.conn = p.conn
    r.life = e.conntrack.table.hot[p.conn].id
    for direction in range(2):
        read_tuple(&e.conntrack.table, p.conn, direction, &tuple)
        memcpy(r.src[direction], tuple.src, 16)
        memcpy(r.dst[direction], tuple.dst, 16)
        r.sport[direction] = tuple.sport
        r.dport[direction] = tuple.dport
    ring_put(e.ring, r, sizeof(Redirected))


cdef inline bint run_confirm(EngineState* e, Packet* p) noexcept nogil:
    """The last step: an unconfirmed connection becomes one that others see."""
    cdef uint8_t reason
    if p.conn == 0 or p.ctinfo == CT_UNTRACKED:
        return ON
    if e.c.tape != NULL:
        tape_op(e.c.tape, OP_CONFIRM)
    if e.conntrack.table.hot[p.conn].status & CONFIRMED:
        if e.conntrack.table.hot[p.conn].flags & CONN_EVENT:
            conntrack_confirm(e.conntrack, p, e.c.now)          # nothing to confirm: it tells the UPDATE event
        return ON
    if direction_of(p.ctinfo) == REPLY:
        return ON
    reason = <uint8_t>conntrack_confirm(e.conntrack, p, e.c.now)
    if p.trace:
        trace(&e.c, p, TRACE_CONFIRM, NO_CHAIN, p.conn, NO_TEST, reason)
    if reason:
        return drop(p, reason)
    if p.conn and e.conntrack.table.hot[p.conn].status & DST_NAT:
        tell_redirected(e, p)
    return ON


cdef uint32_t run_step(EngineState* e, Packet* p, uint8_t step) noexcept nogil:
    if step >= STEP_MANGLE and not e.looked:
        e.looked = 1
        if run_remembered(e, p) != ON:
            return GONE if p.verdict == DROP else DONE
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


# ---- the flow cache ---------------------------------------------------------------------------------------------------

cdef inline uint32_t run_remembered(EngineState* e, Packet* p) noexcept nogil:
    """Run the rest of a crossing from what the packet's flow met before.  ON: walk; what it meets is recorded if that may serve."""
    cdef ConnHot* hot
    cdef const Path* path
    cdef uint32_t i
    if not e.paths.room or not rememberable(p):
        return ON
    hot = &e.conntrack.table.hot[p.conn]
    if not hot.status & CONFIRMED or hot.id != p.life:
        return ON
    path_key(&e.tape_key, p, hot)
    path = path_find(e.paths, hot.cache[direction_of(p.ctinfo)], &e.tape_key)
    if path == NULL:
        e.tape.reads = e.tape.n = 0
        e.tape_conn = p.conn
        e.c.tape = &e.tape
        return ON
    if path.walk:
        return ON
    e.paths.hits += 1
    for i in range(path.n):
        if path.op[i] < OP_CONFIRM:
            e.c.counters[path.op[i]].packets += 1
            e.c.counters[path.op[i]].bytes += p.total
        elif path.op[i] & OP_NAT:
            e.c.hook = <uint8_t>path.op[i]
            p.reason = nat_packet(e.conntrack, p, manip_of_hook(e.c.hook), &e.c)
            if p.reason:
                return drop(p, p.reason)
        elif hot.flags & CONN_EVENT:
            conntrack_confirm(e.conntrack, p, e.c.now)
    p.mark = path.mark
    p.dirty |= path.dirty
    p.step = path.step
    p.verdict = path.verdict
    return DONE


cdef void keep_path(EngineState* e, const Packet* p, uint32_t going) noexcept nogil:
    """The walk of a recorded packet is over: have its flow remember it."""
    cdef Tape* tape = &e.tape
    cdef Path path
    cdef ConnHot* hot = &e.conntrack.table.hot[e.tape_conn]
    cdef uint32_t direction = direction_of(p.ctinfo), number
    e.c.tape = NULL
    if p.conn != e.tape_conn or p.reason or hot.mark != e.tape_key.connmark or (going == GONE and p.verdict != DROP):
        return                              # the next packet may find things different, or this one was an accident
    memset(&path, 0, sizeof(path))
    path.key = e.tape_key
    path.reads = <uint8_t>tape.reads
    path.walk = tape.reads & READS_PACKET or tape.n > TAPE_OPS
    if not tape.reads & READS_CONNMARK:
        path.key.connmark = 0
    if not tape.reads & READS_TCP_FLAGS:
        path.key.tcp_flags = 0
    if not path.walk:
        path.mark = p.mark
        path.dirty = p.dirty & DIRTY_MARK
        path.step = p.step
        path.verdict = p.verdict
        path.n = <uint8_t>tape.n
        memcpy(path.op, tape.op, tape.n * sizeof(uint32_t))
    path.before = path_before(e.paths, hot.cache[direction])
    number = path_keep(e.paths, &path)
    if number:
        conntrack_remember(e.conntrack, e.tape_conn, p.life, direction, number)


cdef void forget_paths(EngineState* e, uint64_t now_ns) noexcept nogil:
    """Throw all paths away: what the flows remember becomes numbers of nothing."""
    cdef PathTable* t = e.paths
    cdef uint64_t first
    memset(t.slots, 0, sizeof(t.slots))
    t.base += t.used
    t.used = 0
    if t.numbers_end - t.base < PATHS:
        first = conntrack_path_numbers(e.conntrack, 16 * PATHS)
        if first + 16 * PATHS > <uint64_t>0xffffffffU:
            t.room = 0                      # after billions of changes: no cache any more
        t.base = <uint32_t>first
        t.numbers_end = <uint32_t>(first + 16 * PATHS)
    t.program = e.view.serial
    t.refreshed = now_ns


# ---- one crossing -----------------------------------------------------------------------------------------------------

cdef uint32_t run_hook(EngineState* e, Packet* p, uint8_t hook) noexcept nogil:
    """Run the steps of one hook, seen as the kernel shows it there: devices by hook, hop count before forwarding."""
    cdef const uint8_t* step = steps_of(hook)
    cdef bint early = hook == PREROUTING and p.hook == FORWARD
    cdef uint32_t going = ON
    e.c.hook = hook
    e.c.iif = NULL if hook == OUTPUT else interface_by_index(e.c.host, p.ifin)
    e.c.oif = NULL if hook == PREROUTING or hook == INPUT else interface_by_index(e.c.host, p.ifout)
    if early:
        p.ttl += 1
    while step[0] != STEP_END and going == ON:
        going = run_step(e, p, step[0])
        step += 1
    if early:
        p.ttl -= 1
    p.step |= 1 << hook
    return going


cdef inline bint is_link_control(const Packet* p) noexcept nogil:
    """NDP, MLD or IGMP, which the kernel makes for one link: at POSTROUTING they show in = out, as if routed back (spec/probes.md 2)."""
    if p.ifin != p.ifout:
        return False
    if p.family == IPV4:
        return p.proto == 2
    return p.proto == 58 and p.flags & HAS_ICMP and (130 <= p.icmp_type <= 137 or p.icmp_type == 143)


cdef inline uint32_t hooks_before(const EngineState* e, const Packet* p) noexcept nogil:
    """Hooks that a packet seen at p.hook has behind it on its path, one bit each."""
    if p.hook == INPUT or p.hook == FORWARD:
        return 1 << PREROUTING
    if p.hook == POSTROUTING:
        if not p.ifin or (p.step >> OUTPUT) & 1 or is_link_control(p):
            return 1 << OUTPUT
        return (1 << PREROUTING) | (1 << FORWARD)
    return 0


cdef inline uint32_t run_crossing(EngineState* e, Packet* p) noexcept nogil:
    """Every step of the path up to here that was not run, and POSTROUTING's when it is not attached."""
    cdef uint32_t before = hooks_before(e, p), hook, going
    for hook in range(OUTPUT + 1):
        if (before >> hook) & 1 and not (p.step >> hook) & 1:
            going = run_hook(e, p, <uint8_t>hook)
            if going != ON:
                return going
    going = run_hook(e, p, p.hook)
    if going != ON:
        return going
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


cdef inline void key_of(const Packet* p, uint64_t* key, uint64_t* check) noexcept nogil:
    inflight_key(p.data, p.len, p.family, p.thoff if p.flags & HAS_L4 else 0, p.proto, False, key, check)


cdef inline void recall(EngineState* e, Packet* p) noexcept nogil:
    """What we know of a packet from an earlier crossing, if anything."""
    cdef uint64_t key, check
    cdef InFlight r
    cdef uint8_t hook = p.hook
    p.conn = p.life = 0
    p.ctinfo = CT_INVALID
    p.step = 0
    p.own = 0
    p.zone = p.zone_dir = 0
    p.secmark = 0
    p.trace = e.trace_all
    if not e.keyed:
        e.serial += 1
        p.serial = e.serial
        return
    if e.at < KEYED_MAX:
        key = e.keys[e.at][0]
        check = e.keys[e.at][1]
    else:
        key_of(p, &key, &check)
    if not inflight_take(e.inflight, key, check, False, hook, p, &r) and not (hook == INPUT and take_merged(e, p, &r)):
        if not (hook == OUTPUT and load32(&e.inflight.own_count) and take_own(e, p, &r)):
            e.serial += 1
            p.serial = e.serial
            return
    p.conn = r.conn
    p.life = r.life
    p.ctinfo = r.ctinfo
    p.step = r.done
    p.own = r.own != NOT_OWN
    p.zone = r.zone
    p.zone_dir = r.traced_zone_dir >> 1
    p.secmark = r.secmark
    p.serial = r.serial
    p.trace = (r.traced_zone_dir & 1) | e.trace_all
    if r.own == OWN_UNSENT:
        e.serial += 1
        p.serial = e.serial


cdef inline bint take_merged(EngineState* e, Packet* p, InFlight* r) noexcept nogil:
    """The records of the fragments that the kernel has merged into this IPv4 datagram: one of them for it, all of them gone."""
    cdef uint64_t key, check
    cdef InFlight other
    if p.family != IPV4:
        return False
    inflight_piece_key(p.data, p.proto, &key, &check)
    if not inflight_take(e.inflight, key, check, False, INPUT, p, r):
        return False
    while inflight_take(e.inflight, key, check, False, INPUT, p, &other):
        if other.conn:
            conntrack_release(e.conntrack, other.conn)
    return True


cdef inline bint take_own(EngineState* e, Packet* p, InFlight* r) noexcept nogil:
    """The record of a reply of our own: its key leaves out what the kernel fills in."""
    cdef uint64_t key, check
    inflight_key(p.data, p.len, p.family, p.thoff if p.flags & HAS_L4 else 0, p.proto, True, &key, &check)
    return inflight_take(e.inflight, key, check, True, OUTPUT, p, r)


cdef inline bint remember(EngineState* e, Packet* p) noexcept nogil:
    """Write the in-flight record of an accepted packet that will cross again."""
    cdef uint32_t writer, batch
    cdef InFlight r
    key_of(p, &r.key, &r.check)
    fill_record(e, &r, p)
    if p.conn:
        conntrack_hold(e.conntrack, p.conn)
    if inflight_write(e.inflight, &r, &writer, &batch) or (batch and remember_after(e, &r, writer, batch)):
        return ON
    if p.conn:
        conntrack_release(e.conntrack, p.conn)
    return drop(p, REASON_INTERNAL)


cdef bint remember_after(EngineState* e, const InFlight* r, uint32_t writer, uint32_t batch) noexcept nogil:
    """Write a record when another thread has sent its packet that looks the same; ours goes behind it then.

    First what we have judged is sent, for that thread may be waiting for us.  One that hangs is not waited for.
    """
    cdef uint32_t turns
    if e.sender.send != NULL:
        e.sender.send(e.sender.transport, e.at, e.releasable)
        progress_sent(e.inflight, e.thread)
        for turns in range(WAIT_TURNS):
            if inflight_write(e.inflight, r, &writer, &batch):
                return True
            if batch == 0:
                return False
            give_way()
    return inflight_write(e.inflight, r, NULL, &batch)


cdef void decide(EngineState* e, Packet* p, bint follow) noexcept nogil:
    """A packet or a reassembled datagram at one crossing: sets verdict, reason, dirty.  follow: it will cross again as it is."""
    cdef uint32_t mark = p.mark, priority = p.priority, going
    p.verdict = ACCEPT
    p.reason = REASON_NONE
    p.dirty = 0
    p.ct_template = 0
    p.local = p.hook == OUTPUT or (p.step >> OUTPUT) & 1
    if p.trace:
        e.c.hook = p.hook
        record_packet(&e.c, p, RECORD_PACKET, NO_CHAIN)
    e.looked = 0
    going = run_crossing(e, p)
    if e.c.tape != NULL:
        keep_path(e, p, going)
    if going != GONE and p.dirty & DIRTY_PAYLOAD:
        p.reason = rewrite_finish(p)
        if p.reason:
            drop(p, p.reason)
    if p.mark != mark:
        p.dirty |= DIRTY_MARK
    if p.priority != priority:
        p.dirty |= DIRTY_PRIORITY
    if follow and p.verdict == ACCEPT and crosses_again(e, p):
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
    cdef bint whole_goes
    if whole.conn:
        conntrack_hold(e.conntrack, whole.conn)
    decide(e, whole, False)                     # its fragments are remembered: one by one they cross FORWARD, merged INPUT
    whole_goes = leaves_whole(q, whole)
    e.releasable = e.outbox.n_released          # its fragments are remembered after they have been rewritten, but before they go
    defrag_release(e.defrag, q, whole, e.outbox, at)
    e.stats.verdicts[whole.verdict] += q.n
    e.stats.drops[whole.reason] += q.n
    if whole.verdict == ACCEPT and crosses_again(e, whole):
        if whole_goes:
            remember(e, whole)
        f = NULL if whole_goes else q.first
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
    e.releasable = 0xffffffff
    let_go(e, whole)


cdef void gather(EngineState* e, Packet* p, uint32_t at) noexcept nogil:
    """A fragment where something tracks: hold it, or judge the datagram that it completes."""
    cdef Packet whole
    cdef Datagram* q = NULL
    cdef uint32_t outcome = defrag_add(e.defrag, p, e.c.now, &whole, &q, e.outbox, at)
    if p.trace:
        trace(&e.c, p, TRACE_DEFRAG, NO_CHAIN, NO_CHAIN, NO_TEST, outcome)
    if outcome == FRAG_PASS:
        decide(e, p, True)
        let_go(e, p)
    elif outcome >= FRAG_DROP:
        drop(p, <uint8_t>(outcome & 0xff))
        let_go(e, p)
    else:
        p.verdict = HELD                    # its reference stays with the held copy
        if outcome == FRAG_WHOLE:
            decide_datagram(e, &whole, q, at)


cdef void judge(EngineState* e, Packet* p, uint32_t at) noexcept nogil:
    """Packet number `at` of a batch, which `prepare` has parsed, at one crossing."""
    p.reason = REASON_NONE
    p.dirty = 0
    p.release = 0
    e.at = at
    e.c.ahead = &e.ahead[at] if at < e.n_ahead else NULL
    e.stats.packets += 1
    e.stats.bytes += p.total
    if p.flags & BAD_IP:
        drop(p, REASON_BAD_IP)
        return
    recall(e, p)
    if p.family != IPV4 and p.step == 0 and p.hook <= FORWARD and refused_on_receipt(p, e.c.host):
        drop(p, REASON_BAD_IP)
        let_go(e, p)
        return
    if p.flags & IS_FRAGMENT and e.c.program.features[family_index(p.family)] & (NEEDS_CONNTRACK | NEEDS_DEFRAG):
        gather(e, p, at)
        return
    if p.family == IPV4 and e.attached & (1 << PREROUTING) and p.hook == INPUT and p.step == 0 and pieces_seen(e.inflight, p, e.c.now):
        p.step = 1 << PREROUTING
    decide(e, p, True)
    if p.flags & IS_FRAGMENT and p.hook == PREROUTING and p.family == IPV4 and p.verdict == ACCEPT:
        pieces_note(e.inflight, p, e.c.now)
    let_go(e, p)


# ---- the transport's door ---------------------------------------------------------------------------------------------

cdef inline void take_up(EngineState* e, uint64_t now_ns) noexcept nogil:
    """A batch boundary: run what the control side has handed over since the last one.

    Always copied, never compared with what was there: a thread that slept through several swaps may find a new view at the
    address of one that has been freed.
    """
    cdef ProgramView* view = load_view(&e.next)
    cdef uint64_t host_serial = load_serial(&e.host_serial)
    cdef const void* host = load_host(&e.next_host)
    if view != NULL:
        e.view = view
        e.c.program = view.program
        e.c.rules = view.rules
        e.c.tests = view.tests
        e.c.data = view.data
        e.c.state = view.state
        e.c.counters = view.counters
        e.c.stack = view.stack
        e.c.named = view.named
    if e.view != NULL and e.paths.room and (e.paths.program != e.view.serial or e.paths.host != host_serial or host != <const void*>e.c.host
                         or e.attached != e.next_attached
                         or (e.paths.used == e.paths.room and now_ns - e.paths.refreshed > REFRESH_NS)):
        e.paths.host = host_serial
        forget_paths(e, now_ns)
    if host != <const void*>e.c.host:
        e.c.host = <const HostHeader*>host
    e.attached = e.next_attached


cdef inline bint remembers(const ConnHot* hot) noexcept nogil:
    return (hot.cache[0] | hot.cache[1]) != 0


cdef inline void prepare(EngineState* e, Packet* packets, uint32_t n) noexcept nogil:
    """Stages ahead of judging: parse all, then ask memory for all buckets, then for all entries, so that they come together."""
    cdef uint32_t likely[KEYED_MAX]
    cdef uint32_t i, keyed = 0, first = n if n < KEYED_MAX else KEYED_MAX
    cdef bint tracks = (e.c.program.features[0] | e.c.program.features[1]) & NEEDS_CONNTRACK and n > 1
    for i in range(n):
        parse(&packets[i])
        if tracks and not packets[i].flags & BAD_IP:
            conntrack_prefetch_bucket(e.conntrack, &packets[i])
    e.keyed = load32(&e.inflight.count) != 0        # a packet that comes again came after its record was written
    if e.keyed:
        keyed = n if n < KEYED_MAX else KEYED_MAX
    for i in range(keyed):
        if not packets[i].flags & BAD_IP:
            key_of(&packets[i], &e.keys[i][0], &e.keys[i][1])
            inflight_prefetch_bucket(e.inflight, e.keys[i][0])
    for i in range(keyed):
        inflight_prefetch_record(e.inflight, e.keys[i][0])
    if tracks:
        for i in range(first):
            likely[i] = conntrack_prefetch_entry(e.conntrack, &packets[i])
        for i in range(first):
            conntrack_prefetch_more(e.conntrack, &packets[i], likely[i])
    e.n_ahead = first if e.c.program.large and n > 1 else 0
    for i in range(e.n_ahead):                      # a flow that remembers what it met will hardly walk
        e.ahead[i].wanted = not (tracks and likely[i] and e.paths.room and remembers(&e.conntrack.table.hot[likely[i]]))
    if e.n_ahead:
        look_ahead(&e.c, packets, e.n_ahead, e.ahead)


cdef void engine_batch(void* engine, Packet* packets, uint32_t n, uint64_t now_ns, int64_t wall_ns) noexcept nogil:
    """Judge a batch; see _outbox.pxd for the contract."""
    cdef EngineState* e = <EngineState*>engine
    cdef uint32_t i
    take_up(e, now_ns)
    e.c.now = now_ns
    e.c.wall = wall_ns
    if progress_boundary(e.inflight, e.thread, n, False):
        forget_refused(e, now_ns, False)
    defrag_bury(e.defrag)
    if e.defrag.datagrams:
        defrag_expire(e.defrag, now_ns, e.outbox, 0)
    if e.view == NULL:                  # no rules yet: nothing may pass
        for i in range(n):
            packets[i].dirty = 0
            drop(&packets[i], REASON_INTERNAL)
        return
    prepare(e, packets, n)
    for i in range(n):
        judge(e, &packets[i], i)
        if packets[i].verdict != HELD:
            e.stats.verdicts[packets[i].verdict] += 1
            e.stats.drops[packets[i].reason] += 1
    conntrack_expire(e.conntrack, now_ns, n)         # in step with the traffic: a batch may be one packet


cdef void forget_refused(EngineState* e, uint64_t now_ns, bint everything) noexcept nogil:
    """End the records of packets that the kernel dropped between two hooks, and the unconfirmed entries that only they held."""
    cdef uint32_t i
    cdef InFlight r
    if not next_generation(e.inflight, now_ns) and not everything:
        return
    for i in range(STRIPES):
        while inflight_refused(e.inflight, i, everything, &r):
            e.stats.refused += 1
            if r.conn:
                conntrack_release(e.conntrack, r.conn)


cdef void engine_idle(void* engine, uint64_t now_ns) noexcept nogil:
    """The queue socket was read empty after the last verdict."""
    cdef EngineState* e = <EngineState*>engine
    take_up(e, now_ns)
    defrag_bury(e.defrag)
    defrag_expire(e.defrag, now_ns, e.outbox, 0)
    progress_boundary(e.inflight, e.thread, 0, True)
    if load32(&e.inflight.count):
        forget_refused(e, now_ns, e.inflight.threads == 1)
    if now_ns - e.expired_at >= EXPIRE_NS:              # not at every wake-up: live, a socket is empty after every packet or two
        e.expired_at = now_ns
        conntrack_expire(e.conntrack, now_ns, EXPIRE_BUDGET)
