"""The index of a chain: which rule can match next.  Readers, used by the matcher; the builder is _classify.pyx.

Overview.  A chain is not a classifier with one answer: a rule may hold its fields and still fail a stateful match, or have
a target that goes on.  So the primitive is "the next rule from here on that can match", in order.  Every rule of an indexed
chain lives in one place: in the lists of a field that is narrow for it (source, destination, destination port, source
port), once per class of values that it covers; or, if it asks for a wide prefix, in the node of that prefix; or in the
list of the rest.  A packet picks one list per field, the nodes around its addresses, and the rest.  Each list is sorted by
rule, and its entries carry the hull of all fields, so most candidates are refused in 32 bytes without touching the rule.
What remains is merged by rule number and judged by the rule's own tests: the index can be switched off and nothing changes.

Which fields of a rule count, and for which packets the index may be asked at all (`indexable`), see _classify.pyx.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from nfqfw._packet cimport (BAD_CHAIN, CT_INVALID, CT_UNTRACKED, HAS_ICMP, HAS_L4, HAS_TCP, HAS_UDP, IPV4, LATER_FRAGMENT, Packet,
                            be32, destination, source)


cdef enum:
    LISTS = 21                  # four fields, the rest, and the nodes around both addresses
    NODE_DEPTH = 8              # nested wide prefixes of one field; a rule deeper down lives in the rest
    LIST_SRC = 0
    LIST_DST = 1
    LIST_DPORT = 2
    LIST_SPORT = 3
    LIST_REST = 4
    NO_RULE = 0xffffffff


cdef struct Box:                # what a rule asks, as build_index takes it: 92 bytes; addresses big-endian
    uint8_t src_low[16]         # IPv4: the last 4 bytes count
    uint8_t src_high[16]
    uint8_t dst_low[16]
    uint8_t dst_high[16]
    uint16_t sport_low
    uint16_t sport_high
    uint16_t dport_low
    uint16_t dport_high
    uint8_t proto_low
    uint8_t proto_high
    uint8_t ctmask
    uint8_t pad
    uint32_t sport_list         # exact ranges: first of them in the ranges array, and how many; 0 = the hull is exact
    uint32_t n_sport
    uint32_t dport_list
    uint32_t n_dport

cdef struct Range16:
    uint16_t low
    uint16_t high

cdef struct IndexEntry:         # 32 bytes
    uint32_t rule               # rule row
    uint32_t src_low            # classes of the source, both ends included
    uint32_t src_high
    uint32_t dst_low
    uint32_t dst_high
    uint16_t sport_low
    uint16_t sport_high
    uint16_t dport_low
    uint16_t dport_high
    uint8_t proto_low
    uint8_t proto_high
    uint8_t ctmask              # classes it accepts: bit of ct_bit()
    uint8_t pad


cdef struct ClassTable:         # values of a field cut into intervals; class = number of the interval
    uint32_t n                  # boundaries; classes are 0 .. n
    uint32_t bounds             # offset from the IndexHeader: first value of class 1, 2, ...; 4 or 16 bytes each, sorted
    uint32_t top                # offset of uint32_t[65537]: boundaries below each value of the top 16 bits; 0 = none
    uint32_t lists              # offset of uint32_t[n + 2]: start of each class's list in entries; 0 = nothing lives here
    uint32_t inner              # offset of uint32_t[n + 1]: innermost node around each class, 0 = none; 0 = there are no nodes
    uint32_t nodes              # offset of IndexNode[], the first unused


cdef struct IndexNode:          # a wide prefix that rules ask for
    uint32_t parent             # the next prefix around it, 0 = none
    uint32_t first              # its rules, in entries
    uint32_t n


cdef struct IndexHeader:
    uint32_t size
    uint32_t wide               # 1 = addresses have 16 bytes
    uint32_t entries            # offset of IndexEntry[]
    uint32_t rest               # first entry of the rest
    uint32_t n_rest
    uint32_t n_rules
    ClassTable field[4]         # LIST_SRC .. LIST_SPORT


cdef struct Cursors:
    const IndexEntry* at[21]
    const IndexEntry* end[21]
    uint32_t n                  # lists of this packet
    uint32_t src                # the packet's classes
    uint32_t dst
    uint16_t sport
    uint16_t dport
    uint8_t proto
    uint8_t ctbit


cdef inline uint8_t ct_bit(uint8_t ctinfo) noexcept nogil:
    """One bit per class: ESTABLISHED 1, RELATED 2, NEW 4, UNTRACKED 8, INVALID 16."""
    if ctinfo == CT_UNTRACKED:
        return 8
    if ctinfo == CT_INVALID:
        return 16
    return <uint8_t>(1 << (ctinfo % 3))


cdef inline bint indexable(const Packet* p) noexcept nogil:
    """Whether every field the index looks at is in the packet.  Else the chain is walked rule by rule: such a packet may be
    dropped by the first match that cannot read it, whatever the addresses say."""
    if not p.flags & HAS_L4 or p.flags & BAD_CHAIN:
        return False
    if p.proto == 6:
        return (p.flags & HAS_TCP) != 0
    if p.proto == 17 or p.proto == 136:
        return (p.flags & HAS_UDP) != 0
    if p.proto == 1 or p.proto == 58:
        return (p.flags & HAS_ICMP) != 0
    return p.proto != 132 and p.proto != 33         # SCTP, DCCP: a port test may find them cut


cdef inline uint32_t below32(const uint32_t* bounds, uint32_t n, uint32_t value) noexcept nogil:
    """How many of n sorted bounds are <= value: the class.  Branch-free binary search."""
    cdef const uint32_t* base = bounds
    cdef uint32_t half
    if n == 0:
        return 0
    while n > 1:
        half = n >> 1
        base += half if base[half - 1] <= value else 0
        n -= half
    return <uint32_t>(base - bounds) + (1 if base[0] <= value else 0)


cdef inline bint le128(const uint64_t* a, uint64_t high, uint64_t low) noexcept nogil:
    return a[0] < high or (a[0] == high and a[1] <= low)


cdef inline uint32_t below128(const uint64_t* bounds, uint32_t n, uint64_t high, uint64_t low) noexcept nogil:
    cdef uint32_t first = 0, middle
    while first < n:
        middle = (first + n) >> 1
        if le128(bounds + 2 * middle, high, low):
            first = middle + 1
        else:
            n = middle
    return first


cdef inline uint32_t class32(const IndexHeader* h, const ClassTable* t, uint32_t value) noexcept nogil:
    cdef const uint32_t* bounds = <const uint32_t*>(<const uint8_t*>h + t.bounds)
    cdef const uint32_t* top
    cdef uint32_t first
    if t.top == 0:
        return below32(bounds, t.n, value)
    top = <const uint32_t*>(<const uint8_t*>h + t.top) + (value >> 16)
    first = top[0]
    return first + below32(bounds + first, top[1] - first, value)


cdef inline uint32_t class_address(const IndexHeader* h, const ClassTable* t, const uint8_t* address) noexcept nogil:
    if not h.wide:
        return class32(h, t, be32(address))
    return below128(<const uint64_t*>(<const uint8_t*>h + t.bounds), t.n,
                    (<uint64_t>be32(address) << 32) | be32(address + 4), (<uint64_t>be32(address + 8) << 32) | be32(address + 12))


cdef inline void add_list(Cursors* c, const IndexEntry* first, uint32_t n) noexcept nogil:
    if n:
        c.at[c.n] = first
        c.end[c.n] = first + n
        c.n += 1


cdef inline void add_class(const IndexHeader* h, Cursors* c, const ClassTable* t, uint32_t value_class) noexcept nogil:
    """The rules that live in this class of a field."""
    cdef const uint32_t* lists = <const uint32_t*>(<const uint8_t*>h + t.lists)
    add_list(c, <const IndexEntry*>(<const uint8_t*>h + h.entries) + lists[value_class], lists[value_class + 1] - lists[value_class])


cdef inline void add_nodes(const IndexHeader* h, Cursors* c, const ClassTable* t, uint32_t value_class) noexcept nogil:
    """The rules of every wide prefix around this class."""
    cdef const IndexNode* nodes = <const IndexNode*>(<const uint8_t*>h + t.nodes)
    cdef uint32_t node = (<const uint32_t*>(<const uint8_t*>h + t.inner))[value_class]
    while node:
        add_list(c, <const IndexEntry*>(<const uint8_t*>h + h.entries) + nodes[node].first, nodes[node].n)
        node = nodes[node].parent


cdef inline void index_open(const IndexHeader* h, const Packet* p, Cursors* c) noexcept nogil:
    """Choose the lists of this packet.  Valid until the packet's addresses or connection class change."""
    c.n = 0
    c.src = class_address(h, &h.field[LIST_SRC], source(p))
    c.dst = class_address(h, &h.field[LIST_DST], destination(p))
    c.sport = p.sport
    c.dport = p.dport
    c.proto = p.proto
    c.ctbit = ct_bit(p.ctinfo)
    if h.field[LIST_SRC].lists:
        add_class(h, c, &h.field[LIST_SRC], c.src)
    if h.field[LIST_DST].lists:
        add_class(h, c, &h.field[LIST_DST], c.dst)
    if h.field[LIST_DPORT].lists:
        add_class(h, c, &h.field[LIST_DPORT], class32(h, &h.field[LIST_DPORT], p.dport))
    if h.field[LIST_SPORT].lists:
        add_class(h, c, &h.field[LIST_SPORT], class32(h, &h.field[LIST_SPORT], p.sport))
    if h.field[LIST_SRC].inner:
        add_nodes(h, c, &h.field[LIST_SRC], c.src)
    if h.field[LIST_DST].inner:
        add_nodes(h, c, &h.field[LIST_DST], c.dst)
    add_list(c, <const IndexEntry*>(<const uint8_t*>h + h.entries) + h.rest, h.n_rest)


cdef inline bint may_match(const IndexEntry* e, const Cursors* c) noexcept nogil:
    """The hull of the rule's fields holds the packet's: all compares without a branch, most entries fail."""
    return (((c.src - e.src_low) <= (e.src_high - e.src_low)) & ((c.dst - e.dst_low) <= (e.dst_high - e.dst_low))
            & (<uint16_t>(c.dport - e.dport_low) <= <uint16_t>(e.dport_high - e.dport_low))
            & (<uint16_t>(c.sport - e.sport_low) <= <uint16_t>(e.sport_high - e.sport_low))
            & (<uint8_t>(c.proto - e.proto_low) <= <uint8_t>(e.proto_high - e.proto_low)) & ((e.ctmask & c.ctbit) != 0))


cdef inline uint32_t index_next(Cursors* c, uint32_t first) noexcept nogil:
    """The lowest rule row >= first that may match; NO_RULE when there is none."""
    cdef uint32_t best = NO_RULE, i
    cdef const IndexEntry* e
    for i in range(c.n):
        e = c.at[i]
        while e < c.end[i] and (e.rule < first or not may_match(e, c)):
            e += 1
        c.at[i] = e
        if e < c.end[i] and e.rule < best:
            best = e.rule
    return best
