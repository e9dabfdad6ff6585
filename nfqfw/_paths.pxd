"""Paths: what a known flow met in the ruleset, so that its next packet need not walk it again.  The flow cache.  Header-only.

Overview.  The first packet of an established flow walks the rules with a Tape running: every counter it bumps, every
translation, in order.  If all that was consulted on the way depends on the PathKey alone (the flow, the devices, marks, state),
the tape becomes a Path, and the connection remembers its number, one word per direction (ConnHot.cache).  The next packet with
the same key plays the tape back: counters stay exact, verdict and mark are those of the walk.  TestRow.flags and RuleRow.flags
say what a test or target reads (compile.py writes them); one that reads anything else, or keeps a state, ends the recording, and
the path is remembered as one that must be walked.

Life-cycle.  Paths belong to one queue thread and to the Program, the Host block and the attached hooks in force: a change of any
throws them all away.  Numbers are never used twice within a flow table (`conntrack_path_numbers`), so a word that another thread
or another life of the table wrote is a number out of range, never a wrong path.  Equal paths share one row; a ruleset has few.
A flow may need several (one per crossing, per class, per set of TCP flags): each row names the one remembered before it.

Bounds.  A path longer than TAPE_OPS is walked.  When all rows are in use nothing more is remembered, and once a second they are
all thrown away.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from nfqfw._conn cimport (ASSURED, CONFIRMED, DST_NAT, DST_NAT_DONE, EXPECTED, SEEN_REPLY, SRC_NAT, SRC_NAT_DONE, ConnHot)
from nfqfw._packet cimport CT_ESTABLISHED, CT_ESTABLISHED_REPLY, CT_NEW, IS_FRAGMENT, Packet, raw64


cdef enum:
    TAPE_OPS = 22
    PATHS = 16384               # limits.FLOW_PATHS
    PATH_SLOTS = 32768          # of the hash over them
    PATHS_OF_FLOW = 8           # rows that one word leads to
    OP_NAT = 0x80000000         # op: translate at the hook in its low bits; below OP_CONFIRM: the number of a counter
    OP_CONFIRM = 0x40000000     # op: the last step of the path
    REFRESH_NS = 1000000000
    KEY_STATUS = EXPECTED | SEEN_REPLY | ASSURED | CONFIRMED | SRC_NAT | DST_NAT | SRC_NAT_DONE | DST_NAT_DONE


cdef enum Reads:                # what a test or target depends on besides the rest of the key
    READS_PACKET = 1            # what no key holds: the packet's bytes, a clock, a state of its own
    READS_CONNMARK = 2
    READS_TCP_FLAGS = 4


cdef struct Tape:
    uint32_t reads              # Reads of all that was consulted
    uint32_t n                  # may exceed TAPE_OPS: too long
    uint32_t op[22]


cdef struct PathKey:            # 24 bytes
    uint32_t mark               # as the packet came
    uint32_t connmark
    uint32_t ifin
    uint32_t ifout
    uint16_t status             # of the connection, KEY_STATUS
    uint8_t hook
    uint8_t step                # hooks run before this crossing
    uint8_t ctinfo
    uint8_t tcp_flags
    uint8_t pad[2]


cdef struct Path:               # 128 bytes
    PathKey key                 # connmark and tcp_flags are 0 unless `reads` names them
    uint32_t mark               # as the packet goes
    uint32_t before             # number of the path that this flow remembered before, 0 = none
    uint8_t verdict             # DROP or ACCEPT
    uint8_t dirty
    uint8_t step
    uint8_t walk                # 1 = must be walked; nothing below counts
    uint8_t reads
    uint8_t n
    uint8_t pad[2]
    uint32_t op[22]


cdef struct PathTable:          # one per queue thread; 2 MiB, touched as it fills
    uint32_t base               # number of rows[0]
    uint32_t used
    uint32_t room               # rows that may be used; 0 = the cache is off
    uint32_t numbers_end        # numbers of this thread end here
    uint64_t program            # ProgramView.serial and EngineState.host_serial for which the paths hold
    uint64_t host
    uint64_t refreshed          # CLOCK_MONOTONIC ns
    uint64_t hits
    uint64_t recorded
    uint32_t slots[32768]       # hash -> row + 1
    Path rows[16384]


cdef inline void tape_op(Tape* t, uint32_t op) noexcept nogil:
    if t.n < TAPE_OPS:
        t.op[t.n] = op
    t.n += 1


cdef inline bint rememberable(const Packet* p) noexcept nogil:
    """A packet that its own tuple led to its connection, and that is nothing special."""
    return (p.conn != 0 and not p.trace and not p.own and not p.flags & IS_FRAGMENT
            and (p.ctinfo == CT_ESTABLISHED or p.ctinfo == CT_ESTABLISHED_REPLY or p.ctinfo == CT_NEW))


cdef inline void path_key(PathKey* key, const Packet* p, const ConnHot* hot) noexcept nogil:
    key.mark = p.mark
    key.connmark = hot.mark
    key.ifin = p.ifin
    key.ifout = p.ifout
    key.status = <uint16_t>(hot.status & KEY_STATUS)
    key.hook = p.hook
    key.step = p.step
    key.ctinfo = p.ctinfo
    key.tcp_flags = p.tcp_flags
    key.pad[0] = key.pad[1] = 0


cdef inline bint same_key(const Path* path, const PathKey* key) noexcept nogil:
    cdef const uint8_t* a = <const uint8_t*>&path.key.ifin
    cdef const uint8_t* b = <const uint8_t*>&key.ifin
    if (raw64(a) ^ raw64(b)) | (raw64(a + 5) ^ raw64(b + 5)) | (path.key.mark ^ key.mark):      # ifin .. ctinfo: 13 bytes
        return False
    if path.reads & READS_CONNMARK and path.key.connmark != key.connmark:
        return False
    return not path.reads & READS_TCP_FLAGS or path.key.tcp_flags == key.tcp_flags


cdef inline const Path* path_at(const PathTable* t, uint32_t number) noexcept nogil:
    """NULL: not one of the paths in force."""
    cdef uint32_t row = number - t.base
    return &t.rows[row] if row < t.used else NULL


cdef inline const Path* path_find(const PathTable* t, uint32_t number, const PathKey* key) noexcept nogil:
    """The path of this key among those that a word of a flow leads to."""
    cdef const Path* path = path_at(t, number)
    while path != NULL:
        if same_key(path, key):
            return path
        path = path_at(t, path.before)
    return NULL


cdef inline uint32_t path_before(const PathTable* t, uint32_t number) noexcept nogil:
    """What a new path of a flow puts behind itself: the old ones, or none when they are many or no longer in force."""
    cdef const Path* path = path_at(t, number)
    cdef uint32_t n = 1
    if path == NULL:
        return 0
    while path != NULL:
        n += 1
        path = path_at(t, path.before)
    return number if n <= PATHS_OF_FLOW else 0


cdef inline uint32_t path_hash(const Path* path) noexcept nogil:
    cdef uint64_t words[16]
    cdef uint64_t h = 0
    cdef uint32_t i
    memcpy(words, path, sizeof(Path))
    for i in range(16):
        h = (h ^ words[i]) * <uint64_t>0x9e3779b97f4a7c15
        h ^= h >> 29
    return <uint32_t>(h >> 32)


cdef inline uint32_t path_keep(PathTable* t, const Path* path) noexcept nogil:
    """Number of the row that equals path, made if there is none; 0: no room."""
    cdef uint32_t slot = path_hash(path) & (PATH_SLOTS - 1)
    while t.slots[slot]:
        if memcmp(&t.rows[t.slots[slot] - 1], path, sizeof(Path)) == 0:
            return t.base + t.slots[slot] - 1
        slot = (slot + 1) & (PATH_SLOTS - 1)
    if t.used >= t.room:
        return 0
    memcpy(&t.rows[t.used], path, sizeof(Path))
    t.used += 1
    t.slots[slot] = t.used
    t.recorded += 1
    return t.base + t.used - 1
