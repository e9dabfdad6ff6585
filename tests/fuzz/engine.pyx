"""The fuzzers' way into the engine: one input is a whole story of packets.  Built beside the package by build.py.

Invariants, checked after every packet and at the end (a broken one aborts the process):
1. the verdict is DROP, ACCEPT or HELD, its reason is named, and is never `internal`;
2. a packet whose payload is not dirty has not one byte changed; a dirty one has valid lengths and an IPv4 header checksum;
3. a strict ruleset (udp to 53, tcp to 80, else DROP; nothing tracked) accepts only what an independent reader finds so;
4. connections stay within nf_conntrack_max, held fragments within their limits;
5. after everything has timed out: no fragment held, nothing in flight.
Reads beyond the packet are the sanitizer's to find: each packet lies in memory of exactly its own size.

An input: op, then its operands, until the bytes are used up.
    op bits 0-2  hook (mod 5)       bit 3  template instead of raw bytes     bit 4  put the checksums right
    bits 5-7     time since the last packet: 0, 1 ms, 100 ms, 1 s, 3 s, 31 s, 121 s, 400,000 s
    raw:      u16 length, bytes
    template: u8 number, u8 n (mod 9), n times: u8 offset, u8 value
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort, free, malloc
from libc.string cimport memcmp, memcpy, memset

from nfqfw._checksum cimport fold, sum_bytes
from nfqfw._conntrack cimport Conntrack, ConntrackTable, conntrack_kill
from nfqfw._engine cimport Engine
from nfqfw._packet cimport (ACCEPT, DIRTY_PAYLOAD, DROP, FORWARD, HELD, IPV4, OUTPUT, POSTROUTING, PREROUTING,
                            REASON_COUNT, REASON_INTERNAL, SKB_CSUMNOTREADY, Packet, be16, put16)
from nfqfw._pipeline cimport EngineState, engine_batch, engine_idle

cdef enum:
    SECOND = 1000000000
    LONGEST = 2048
    TEMPLATES_MAX = 64

cdef Engine full, strict
cdef EngineState* full_state
cdef EngineState* strict_state
cdef uint8_t* template[64]
cdef uint32_t template_len[64]
cdef uint32_t n_templates = 0
cdef uint64_t now = 1000 * <uint64_t>SECOND
cdef uint64_t executions = 0, packets = 0
cdef list kept = []
cdef const uint8_t* input_at = NULL
cdef uint32_t input_len = 0

cdef uint64_t STEPS[8]
STEPS[:] = [0, 1000000, 100000000, SECOND, 3 * <uint64_t>SECOND, 31 * <uint64_t>SECOND, 121 * <uint64_t>SECOND, 400000 * <uint64_t>SECOND]


cdef void fail(const char* what, const Packet* p) noexcept nogil:
    """Name the invariant and the input (hexadecimal: `story` runs it again), then end the process."""
    cdef uint32_t i
    fprintf(stderr, "invariant broken: %s (verdict %d reason %d hook %d len %d)\ninput ", what, p.verdict, p.reason, p.hook, p.len)
    for i in range(input_len):
        fprintf(stderr, "%02x", input_at[i])
    fprintf(stderr, "\n")
    abort()


cdef bint accepts_strictly(const uint8_t* h, uint32_t n) noexcept nogil:
    """An independent reader: is this whole UDP to 53 or TCP to 80, from its first byte on?"""
    cdef uint32_t at, kind, size
    if n < 20:
        return False
    if h[0] >> 4 == 4:
        at = (h[0] & 15) * 4
        if be16(h + 2) < n:
            n = be16(h + 2)
        if be16(h + 6) & 0x1fff:
            return False
        kind = h[9]
    else:
        if n < 40 or h[0] >> 4 != 6:
            return False
        if 40 + <uint32_t>be16(h + 4) < n:
            n = 40 + be16(h + 4)
        at = 40
        kind = h[6]
        while kind in (0, 43, 44, 51, 60):
            if at + 8 > n:
                return False
            if kind == 44 and be16(h + at + 2) >> 3:
                return False
            size = 8 if kind == 44 else (h[at + 1] + 2) * 4 if kind == 51 else (h[at + 1] + 1) * 8
            kind = h[at]
            at += size
    if kind == 17:
        return at + 8 <= n and be16(h + at + 2) == 53
    return kind == 6 and at + 20 <= n and be16(h + at + 2) == 80


cdef void judge(EngineState* e, const uint8_t* bytes_in, uint32_t n, uint8_t hook, uint8_t skbinfo, bint strictly) noexcept nogil:
    """One packet in memory of exactly its size, through the engine, and the invariants."""
    cdef Packet p
    cdef uint32_t room = 64 if not strictly and packets & 1 else 0      # every second packet may grow; the others end at their end
    cdef uint8_t* copy = <uint8_t*>malloc(n + room if n + room else 1)
    memcpy(copy, bytes_in, n)
    memset(&p, 0, sizeof(Packet))
    p.data = copy
    p.len = p.total = n
    p.capacity = n + room
    p.family = 10 if n and bytes_in[0] >> 4 == 6 else IPV4
    p.hook = hook
    p.skbinfo = skbinfo
    p.ifin = 0 if hook == OUTPUT else 2
    p.ifout = 0 if hook < FORWARD else 3
    p.id = <uint32_t>packets
    engine_batch(e, &p, 1, now, <int64_t>now)
    if p.verdict > HELD or p.reason >= REASON_COUNT or p.reason == REASON_INTERNAL:
        fail("verdict and reason", &p)
    if p.data != copy:
        fail("packet moved", &p)
    if not p.dirty & DIRTY_PAYLOAD:
        if p.len > n or memcmp(copy, bytes_in, p.len) != 0:
            fail("bytes changed without saying so", &p)
    elif p.verdict == ACCEPT and p.family == IPV4 and (p.len > p.capacity or be16(copy + 2) != p.len or fold(sum_bytes(copy, (copy[0] & 15) * 4, 0))):
        fail("rewritten packet does not hold together", &p)
    if strictly and p.verdict == ACCEPT and not accepts_strictly(bytes_in, n):
        fail("accepted by a rule whose fields were not in the packet", &p)
    e.outbox.n_packets = 0
    e.outbox.n_released = 0
    if e.defrag.bytes > e.defrag.bytes_max or e.defrag.held > e.defrag.held_max:
        fail("fragments over their limits", &p)
    free(copy)


cdef void put_right(uint8_t* h, uint32_t n) noexcept nogil:
    """IPv4: total length and header checksum."""
    cdef uint32_t ihl
    if n < 20 or h[0] >> 4 != 4:
        return
    ihl = (h[0] & 15) * 4
    if ihl < 20 or ihl > n:
        return
    put16(h + 2, n)
    put16(h + 10, 0)
    put16(h + 10, fold(sum_bytes(h, ihl, 0)))


cdef uint32_t next_packet(const uint8_t* data, uint32_t n, uint32_t* at, uint8_t op, uint8_t* out) noexcept nogil:
    """Decode the operands of an op into out; its length."""
    cdef uint32_t length, i, patches, offset
    if not op & 8:
        if at[0] + 2 > n:
            at[0] = n
            return 0
        length = be16(data + at[0]) % LONGEST
        at[0] += 2
        if length > n - at[0]:
            length = n - at[0]
        memcpy(out, data + at[0], length)
        at[0] += length
        return length
    if at[0] + 2 > n or n_templates == 0:
        at[0] = n
        return 0
    i = data[at[0]] % n_templates
    patches = data[at[0] + 1] % 9
    at[0] += 2
    length = template_len[i]
    memcpy(out, template[i], length)
    while patches and at[0] + 2 <= n:
        offset = data[at[0]]
        if offset < length:
            out[offset] = data[at[0] + 1]
        at[0] += 2
        patches -= 1
    return length


cdef int one_input(const uint8_t* data, size_t size) noexcept nogil:
    """A story: feeds every packet of the input to both engines, then lets all time pass."""
    global now, executions, packets, input_at, input_len
    cdef uint8_t packet[2048]
    cdef uint32_t at = 0, n, i, end = <uint32_t>size
    cdef uint8_t op
    input_at = data
    input_len = end
    if now >> 62:                           # the clock would wrap; nothing is left that remembers the time
        now = 1000 * <uint64_t>SECOND
    while at < end:
        op = data[at]
        at += 1
        now += STEPS[op >> 5]
        n = next_packet(data, end, &at, op, packet)
        if op & 16:
            put_right(packet, n)
        judge(full_state, packet, n, (op & 7) % 5, SKB_CSUMNOTREADY if op & 16 else 4, False)
        judge(strict_state, packet, n, FORWARD, 4, True)
        packets += 1
    finish()
    executions += 1
    return 0


cdef void finish() noexcept nogil:
    """All time-outs pass; nothing may be left, and every input starts from an empty table."""
    global now
    cdef Packet nothing
    cdef uint32_t i
    cdef Conntrack* t = full_state.conntrack
    memset(&nothing, 0, sizeof(Packet))
    now += 62 * <uint64_t>SECOND
    engine_idle(full_state, now)
    for i in range(200):                    # 64 datagrams go per call
        if not full_state.defrag.datagrams:
            break
        full_state.outbox.n_released = 0
        engine_idle(full_state, now)
    full_state.outbox.n_released = 0
    if full_state.defrag.held or full_state.defrag.bytes or full_state.defrag.datagrams:
        fail("fragments held for ever", &nothing)
    if full_state.inflight.count:
        fail("in flight for ever", &nothing)
    for i in range(1, t.table.capacity):
        if t.count == 0:
            break
        if t.table.hot[i].commit:
            conntrack_kill(t, i)


def setup(full_rules, strict_rules, list templates, host):
    """Engines over (v4 text, v6 text) rulesets; templates: packets as bytes."""
    global full, strict, full_state, strict_state, n_templates
    from nfqfw._conntrack import ConntrackTable as Table
    from nfqfw._engine import LoadedProgram
    from nfqfw.compile import compile_rulesets
    from nfqfw.rules import load
    engines = []
    for texts in (full_rules, strict_rules):
        program = compile_rulesets([load(text, "fuzz", family) for text, family in zip(texts, (2, 10))])
        loaded = LoadedProgram(program)
        engine = Engine(Table(256, 4096), host, attached=0x1f if texts is full_rules else 0x0e)
        engine.load(loaded)
        kept.append((loaded, engine))
        engines.append(engine)
    full, strict = engines
    full_state, strict_state = full.state, strict.state
    for each in templates[:TEMPLATES_MAX]:
        data = <bytes>each
        template[n_templates] = <uint8_t*>malloc(len(data))
        memcpy(template[n_templates], <const char*>data, len(data))
        template_len[n_templates] = len(data)
        n_templates += 1
    return PyCapsule_New(<void*>one_input, "nfqfw.fuzz", NULL)


def story(bytes data not None):
    """Run one input."""
    cdef const uint8_t* at = <const uint8_t*><const char*>data
    cdef size_t n = len(data)
    with nogil:
        one_input(at, n)


def storm(uint64_t seed, uint64_t count, int seconds):
    """Random stories from a seed until `count` or the time is used up; (stories, packets).  No coverage feedback."""
    cdef uint8_t buffer[512]
    cdef uint64_t x = seed * <uint64_t>0x9E3779B97F4A7C15 + 1, done = 0, before = packets
    cdef uint32_t n, i, k
    import time
    deadline = time.monotonic() + seconds
    while done < count and time.monotonic() < deadline:
        with nogil:
            for k in range(200):
                n = 0
                while n < 400:
                    x = step(x)
                    buffer[n] = <uint8_t>(x >> 8)
                    if (x >> 20) & 7:
                        buffer[n] |= 8                          # mostly templates: they get deep
                        if (x >> 24) & 3:
                            buffer[n] |= 16
                        buffer[n] &= 0x7f if (x >> 30) & 15 else 0xff
                        x = step(x)
                        buffer[n + 1] = <uint8_t>(x >> 16)
                        i = (x >> 40) % 5
                        buffer[n + 2] = <uint8_t>i
                        n += 3
                        while i:
                            x = step(x)
                            buffer[n] = <uint8_t>((x >> 16) % 80)
                            buffer[n + 1] = <uint8_t>(x >> 40) if (x >> 50) & 3 else <uint8_t>((x >> 40) & 3)
                            n += 2
                            i -= 1
                    else:
                        x = step(x)
                        i = (x >> 40) % 60
                        buffer[n + 1] = 0
                        buffer[n + 2] = <uint8_t>i
                        n += 3
                        while i:
                            x = step(x)
                            buffer[n] = <uint8_t>(x >> 33) if (x >> 50) & 1 else 0
                            n += 1
                            i -= 1
                    if not (x >> 58) & 7:
                        break
                one_input(buffer, n)
        done += 200
    return done, packets - before


cdef inline uint64_t step(uint64_t x) noexcept nogil:
    x ^= x >> 12
    x ^= x << 25
    x ^= x >> 27
    return x


def counts():
    """(executions, packets) so far, and the drops by reason of the full engine."""
    return executions, packets, full.stats()
