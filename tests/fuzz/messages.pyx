"""The fuzzers' way into the reader of queue messages.  Built beside the package by build.py, as nfqfw._fuzz_messages.

An input is one datagram of the kernel's (first byte even), or facts of redirected connections (odd) from which messages to
the kernel's connection table are made.  Invariants (a broken one aborts the process):
1. every message of the datagram is judged once if it is a packet with an id, else counted: as an independent walk finds;
2. a packet lies within the datagram, its room to grow within the buffer, and a cut packet has no room at all;
3. the verdicts that are sent are whole messages, in the packets' order, with their ids and what was decided of them;
4. a message to the connection table is at most 256 bytes, of attributes that fill each other exactly.
The datagram lies in memory of exactly its own size: the sanitizer finds every read beyond it.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort, free, malloc
from libc.string cimport memcmp, memcpy, memset

from nfqfw._outbox cimport EngineDoor, Redirected
from nfqfw._packet cimport (ACCEPT, DIRTY_MARK, DIRTY_PAYLOAD, DIRTY_PRIORITY, DROP, HELD, REPEAT, TRUNCATED, Packet, be16, be32)
from nfqfw.queue._ctnetlink cimport put_original, put_removal
from nfqfw.queue._nfnetlink cimport Loop, Queue, take

cdef extern from "sys/socket.h" nogil:
    int socketpair(int family, int kind, int protocol, int* ends)
    ssize_t recv(int fd, void* at, size_t n, int flags)
    enum: AF_UNIX
    enum: SOCK_SEQPACKET
    enum: MSG_DONTWAIT

cdef enum:
    LONGEST = 4096
    BUFFER_BYTES = 65536 + 4096         # of _nfnetlink.pyx
    MOST = 512

cdef Queue queue
cdef Loop* q
cdef EngineDoor door
cdef int wire                           # what the queue sends can be read here
cdef uint8_t* datagram
cdef uint32_t length
cdef Packet judged[512]                 # as they were decided, in order
cdef uint32_t n_judged = 0
cdef uint64_t executions = 0, packets = 0
cdef const uint8_t* input_at = NULL
cdef uint32_t input_len = 0


cdef void fail(const char* what) noexcept nogil:
    cdef uint32_t i
    fprintf(stderr, "invariant broken: %s\ninput ", what)
    for i in range(input_len):
        fprintf(stderr, "%02x", input_at[i])
    fprintf(stderr, "\n")
    abort()


cdef void judge(void* engine, Packet* p, uint32_t n, uint64_t now, int64_t wall) noexcept nogil:
    """The engine's part: looks at every byte, decides by the first one."""
    cdef uint32_t i, k, total
    for i in range(n):
        if p[i].data == NULL:
            if p[i].len:
                fail("a packet that lies nowhere")
        elif p[i].data < datagram or p[i].len > length or p[i].data + p[i].len > datagram + length:
            fail("a packet outside its datagram")
        elif p[i].capacity < p[i].len or p[i].data + p[i].capacity > datagram + BUFFER_BYTES:
            fail("room that is not there")
        elif p[i].capacity > p[i].len and p[i].data + p[i].len + 3 < datagram + length:
            fail("room that another message is in")
        if p[i].total < p[i].len or ((p[i].flags & TRUNCATED) != 0) != (p[i].total > p[i].len) or (p[i].total > p[i].len and p[i].capacity > p[i].len):
            fail("length of a cut packet")
        if p[i].hwlen > 8 or p[i].verdict != DROP or p[i].dirty:
            fail("facts")
        total = 0
        for k in range(p[i].len):
            total += p[i].data[k]
        p[i].verdict = <uint8_t>(total & 3) if (total & 3) != 3 else <uint8_t>REPEAT
        p[i].dirty = (DIRTY_PAYLOAD if total & 4 and p[i].data != NULL else 0) | (DIRTY_MARK if total & 8 else 0) | (DIRTY_PRIORITY if total & 16 else 0)
        if n_judged < MOST:
            judged[n_judged] = p[i]
        note()


cdef inline void note() noexcept nogil:
    global n_judged, packets
    n_judged += 1
    packets += 1


cdef inline uint32_t native(const uint8_t* at, uint32_t n) noexcept nogil:
    cdef uint32_t value = 0
    memcpy(&value, at, n)
    return value


cdef uint32_t expected(uint32_t* malformed, uint32_t* errors) noexcept nogil:
    """The packets an independent walk finds, and what else there is."""
    cdef uint32_t at = 0, size, attribute, n, found = 0
    cdef bint numbered
    while at + 16 <= length:
        size = native(datagram + at, 4)
        if size < 16 or size > length - at:
            malformed[0] += 1
            break
        if native(datagram + at + 4, 2) == 0x300:
            attribute = at + 20
            numbered = False
            while attribute + 4 <= at + size:
                n = native(datagram + attribute, 2)
                if n < 4 or n > at + size - attribute:
                    break
                if native(datagram + attribute + 2, 2) & 0x3fff == 1 and n >= 11:
                    numbered = True
                attribute += (n + 3) // 4 * 4
            found += numbered
            malformed[0] += not numbered
        elif native(datagram + at + 4, 2) == 2 and size >= 20:
            errors[0] += native(datagram + at + 16, 4) != 0
        else:
            malformed[0] += 1
        at += (size + 3) // 4 * 4
    return found


cdef void check_sent() noexcept nogil:
    """Read what was sent: the verdict of every packet that is not held, in order."""
    global n_judged
    cdef uint8_t sent[1 << 18]
    cdef uint32_t i = 0, at, size, attribute, n, kind, verdict, seen
    cdef ssize_t got
    cdef Packet* p
    while True:
        got = recv(wire, sent, sizeof(sent), MSG_DONTWAIT)
        if got <= 0:
            break
        at = 0
        while at < got:
            while i < n_judged and judged[i].verdict == HELD:
                i += 1
            size = native(sent + at, 4) if at + 16 <= got else 0
            if i >= n_judged or size < 32 or size > got - at or native(sent + at + 4, 2) != 0x301 or be16(sent + at + 18) != 3:
                fail("a verdict nobody gave")
            p = &judged[i]
            verdict = DROP if p.dirty & DIRTY_PAYLOAD and p.flags & TRUNCATED else p.verdict
            seen = 0
            attribute = at + 20
            while attribute < at + size:
                n = native(sent + attribute, 2)
                kind = native(sent + attribute + 2, 2)
                if n < 4 or n > at + size - attribute:
                    fail("attributes of a verdict")
                if kind == 2 and (be32(sent + attribute + 8) != p.id or be32(sent + attribute + 4) != verdict):
                    fail("verdict or id")
                if kind == 3 and be32(sent + attribute + 4) != p.mark or kind == 21 and be32(sent + attribute + 4) != p.priority:
                    fail("mark or priority")
                if kind == 10 and (n != p.len + 4 or memcmp(sent + attribute + 4, p.data, p.len) != 0):
                    fail("payload")
                seen |= (DIRTY_MARK if kind == 3 else 0) | (DIRTY_PAYLOAD if kind == 10 else 0) | (DIRTY_PRIORITY if kind == 21 else 0)
                attribute += (n + 3) // 4 * 4
            if attribute != at + size or seen != (0 if verdict == DROP else p.dirty):
                fail("length or parts of a verdict")
            at += (size + 3) // 4 * 4
            i += 1
    while i < n_judged and judged[i].verdict == HELD:
        i += 1
    if i != n_judged:
        fail("a packet without a verdict")


cdef void take_datagram(const uint8_t* data, uint32_t n) noexcept nogil:
    global datagram, length, n_judged
    cdef uint64_t received = q.received, malformed = q.malformed, errors = 0
    cdef uint32_t bad = 0, refused = 0, found, i
    cdef uint8_t* buffers = q.buffers
    datagram = <uint8_t*>malloc(n if n else 1)
    length = n
    memcpy(datagram, data, n)
    n_judged = 0
    found = expected(&bad, &refused)
    for i in range(134):
        errors += q.errors[i]
    q.buffers = datagram
    q.messages[0].msg_len = n
    q.messages[0].msg_hdr.msg_flags = 0
    take(q, 1)
    q.buffers = buffers
    for i in range(134):
        errors -= q.errors[i]
    if n_judged != found or q.received - received != found or q.malformed - malformed != bad or <uint64_t>refused != <uint64_t>0 - errors:
        fail("messages are not counted as an independent walk counts them")
    check_sent()
    free(datagram)


cdef uint32_t fill(const uint8_t* at, uint32_t n, bint nested) noexcept nogil:
    """How far attributes reach; those marked as nested are filled to their end."""
    cdef uint32_t off = 0, size
    while off + 4 <= n:
        size = native(at + off, 2)
        if size < 4 or size > n - off:
            fail("an attribute of a message to the connection table")
        if native(at + off + 2, 2) & 0x8000 and fill(at + off + 4, size - 4, True) != size - 4:
            fail("a nest that is not filled")
        off += (size + 3) // 4 * 4
    return off


cdef void make_original(const uint8_t* data, uint32_t n) noexcept nogil:
    cdef Redirected r
    cdef uint8_t* out = <uint8_t*>malloc(256)
    cdef uint32_t used
    memset(&r, 0, sizeof(r))
    memcpy(&r, data, min(n, <uint32_t>sizeof(r)))
    used = put_original(out, &r)
    if used > 256 or native(out, 4) != used or fill(out + 20, used - 20, False) != used - 20:
        fail("a new entry")
    used = put_removal(out, &r)
    if used > 256 or native(out, 4) != used or fill(out + 20, used - 20, False) != used - 20:
        fail("a removal")
    free(out)


cdef int one_input(const uint8_t* data, size_t size) noexcept nogil:
    global executions, input_at, input_len
    input_at = data
    input_len = <uint32_t>size
    if size and size <= LONGEST:
        if data[0] & 1:
            make_original(data + 1, <uint32_t>size - 1)
        else:
            take_datagram(data + 1, <uint32_t>size - 1)
    executions += 1
    return 0


def setup():
    """A Queue without a kernel; the capsule of the function that takes one input."""
    global queue, q, wire
    cdef int ends[2]
    if socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) < 0:
        raise OSError("socketpair")
    queue = Queue(3)
    q = queue.loop
    q.verdicts.fd = ends[0]
    wire = ends[1]
    door.batch = judge
    q.door = door
    return PyCapsule_New(<void*>one_input, "nfqfw.fuzz", NULL)


def story(bytes data not None):
    """Run one input."""
    cdef const uint8_t* at = <const uint8_t*><const char*>data
    cdef size_t n = len(data)
    with nogil:
        one_input(at, n)


def counts():
    """(executions, packets) so far."""
    return executions, packets
