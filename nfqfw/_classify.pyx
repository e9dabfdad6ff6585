"""Builds the index of a chain (layout and idea: _classify.pxd).  Control path; the work itself is C without the GIL.

A rule brings a Box: the hull of what it asks of each field, and the exact port ranges of a multiport list.  Only tests in
front of the first one with a side effect count (a `limit` before a port test must see the packet whatever its port is),
and only fields that every packet for which the index is asked really has.  indexing.pyx fills the boxes.

Where a rule lives: in the field where the fewest other rules ask the very same.  If it covers many classes of an address
there, in a node that all those classes share; a port range that covers too many is no home.  So memory stays within a
small multiple of the rules whatever they are.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcmp, memcpy, memset

from nfqfw._classify cimport (Box, LIST_DPORT, LIST_DST, LIST_REST, LIST_SPORT, LIST_SRC, NODE_DEPTH, ClassTable, IndexEntry,
                              IndexHeader, IndexNode, Range16, below32, below128)

cdef enum:
    NODE_SRC = 5                # homes besides the lists: a node of the source, of the destination
    NODE_DST = 6
    COVER_LIST = 8              # classes of an address from which a rule lives in a node instead
    NO_NODE = 0xffffffff
    COVER_PORTS = 64            # classes of a port that a rule may cover
    TOP_FROM = 256              # boundaries from which the top-16-bit table pays

cdef struct Bounds:             # boundaries of one field while they are collected
    uint8_t* values             # 4 (host order) or 16 bytes (two host-order words) each
    uint32_t n
    uint32_t width

cdef struct Build:
    const Box* boxes
    const Range16* ranges
    uint32_t n
    uint32_t wide
    uint32_t first_rule
    Bounds bounds[4]
    uint32_t* low[4]            # first and last class of each rule in each field
    uint32_t* high[4]
    uint32_t* crowd[4]          # how many rules ask the very same of the field
    uint8_t* home
    uint32_t* order             # scratch
    uint64_t* keys[2]           # nodes of an address field: low class << 32 | ~high class, sorted: outer before inner
    uint32_t n_keys[2]
    uint32_t* parent[2]         # by node number, which is its place in keys + 1
    uint32_t n_homes[7]
    uint32_t n_entries


cdef int compare32(const void* a, const void* b) noexcept nogil:
    cdef uint32_t x = (<const uint32_t*>a)[0], y = (<const uint32_t*>b)[0]
    return -1 if x < y else 1 if x > y else 0


cdef int compare128(const void* a, const void* b) noexcept nogil:
    cdef const uint64_t* x = <const uint64_t*>a
    cdef const uint64_t* y = <const uint64_t*>b
    if x[0] != y[0]:
        return -1 if x[0] < y[0] else 1
    return -1 if x[1] < y[1] else 1 if x[1] > y[1] else 0


cdef int compare64(const void* a, const void* b) noexcept nogil:
    cdef uint64_t x = (<const uint64_t*>a)[0], y = (<const uint64_t*>b)[0]
    return -1 if x < y else 1 if x > y else 0


cdef inline uint32_t word(const uint8_t* at) noexcept nogil:
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | at[3]


cdef inline uint64_t word64(const uint8_t* at) noexcept nogil:
    return (<uint64_t>word(at) << 32) | word(at + 4)


cdef void add_address(Bounds* b, const uint8_t* value, bint after) noexcept nogil:
    """A boundary at this value, or behind it; none behind the last value there is."""
    cdef uint32_t narrow
    cdef uint64_t* wide
    if b.width == 4:
        narrow = word(value + 12)
        if after and narrow == <uint32_t>0xffffffffU:
            return
        (<uint32_t*>b.values)[b.n] = narrow + (1 if after else 0)
    else:
        wide = <uint64_t*>b.values + 2 * b.n
        wide[0] = word64(value)
        wide[1] = word64(value + 8)
        if after:
            wide[1] += 1
            if wide[1] == 0:
                wide[0] += 1
                if wide[0] == 0:
                    return
    b.n += 1


cdef void add_ports(Bounds* b, uint32_t low, uint32_t high) noexcept nogil:
    (<uint32_t*>b.values)[b.n] = low
    b.n += 1
    if high < 65535:
        (<uint32_t*>b.values)[b.n] = high + 1
        b.n += 1


cdef void tidy(Bounds* b) noexcept nogil:
    """Sort, drop what stands twice and a boundary at 0 (class 0 begins there anyway)."""
    cdef uint32_t i, n = 0
    cdef uint8_t zero[16]
    memset(zero, 0, 16)
    qsort(b.values, b.n, b.width, compare32 if b.width == 4 else compare128)
    for i in range(b.n):
        if memcmp(b.values + i * b.width, zero, b.width) == 0:
            continue
        if n and memcmp(b.values + (n - 1) * b.width, b.values + i * b.width, b.width) == 0:
            continue
        memcpy(b.values + n * b.width, b.values + i * b.width, b.width)
        n += 1
    b.n = n


cdef inline uint32_t class_of(const Bounds* b, const uint8_t* value) noexcept nogil:
    if b.width == 4:
        return below32(<const uint32_t*>b.values, b.n, word(value + 12))
    return below128(<const uint64_t*>b.values, b.n, word64(value), word64(value + 8))


cdef void collect(Build* b) noexcept nogil:
    """Boundaries of all four fields, then each rule's first and last class in each."""
    cdef uint32_t i, k
    cdef const Box* x
    for i in range(b.n):
        x = &b.boxes[i]
        add_address(&b.bounds[LIST_SRC], x.src_low, False)
        add_address(&b.bounds[LIST_SRC], x.src_high, True)
        add_address(&b.bounds[LIST_DST], x.dst_low, False)
        add_address(&b.bounds[LIST_DST], x.dst_high, True)
        add_ports(&b.bounds[LIST_SPORT], x.sport_low, x.sport_high)
        add_ports(&b.bounds[LIST_DPORT], x.dport_low, x.dport_high)
        for k in range(x.n_sport):
            add_ports(&b.bounds[LIST_SPORT], b.ranges[x.sport_list + k].low, b.ranges[x.sport_list + k].high)
        for k in range(x.n_dport):
            add_ports(&b.bounds[LIST_DPORT], b.ranges[x.dport_list + k].low, b.ranges[x.dport_list + k].high)
    for k in range(4):
        tidy(&b.bounds[k])
    for i in range(b.n):
        x = &b.boxes[i]
        b.low[LIST_SRC][i] = class_of(&b.bounds[LIST_SRC], x.src_low)
        b.high[LIST_SRC][i] = class_of(&b.bounds[LIST_SRC], x.src_high)
        b.low[LIST_DST][i] = class_of(&b.bounds[LIST_DST], x.dst_low)
        b.high[LIST_DST][i] = class_of(&b.bounds[LIST_DST], x.dst_high)
        b.low[LIST_SPORT][i] = port_class(b, LIST_SPORT, x.sport_low)
        b.high[LIST_SPORT][i] = port_class(b, LIST_SPORT, x.sport_high)
        b.low[LIST_DPORT][i] = port_class(b, LIST_DPORT, x.dport_low)
        b.high[LIST_DPORT][i] = port_class(b, LIST_DPORT, x.dport_high)


cdef inline uint32_t port_class(const Build* b, uint32_t which, uint32_t port) noexcept nogil:
    return below32(<const uint32_t*>b.bounds[which].values, b.bounds[which].n, port)


cdef void count_crowds(Build* b, uint64_t* scratch) noexcept nogil:
    """crowd[field][rule]: rules whose classes in the field are the very same."""
    cdef uint32_t k, i, j
    cdef uint64_t key
    for k in range(4):
        for i in range(b.n):
            scratch[i] = (<uint64_t>b.low[k][i] << 32) | b.high[k][i]
        qsort(scratch, b.n, 8, compare64)
        i = 0
        while i < b.n:                      # compress to (key, count) in place: count goes to order[]
            j = i
            while j < b.n and scratch[j] == scratch[i]:
                j += 1
            key = scratch[i]
            while i < j:
                b.order[i] = j
                i += 1
        for i in range(b.n):
            key = (<uint64_t>b.low[k][i] << 32) | b.high[k][i]
            b.crowd[k][i] = run_length(scratch, b.order, b.n, key)


cdef uint32_t run_length(const uint64_t* sorted_keys, const uint32_t* run_end, uint32_t n, uint64_t key) noexcept nogil:
    cdef uint32_t first = 0, last = n, middle
    while first < last:
        middle = (first + last) >> 1
        if sorted_keys[middle] < key:
            first = middle + 1
        else:
            last = middle
    return run_end[first] - first


cdef uint32_t covered(const Build* b, uint32_t which, uint32_t i) noexcept nogil:
    """Classes that rule i covers in a field: lists count their ranges, not their hull."""
    cdef const Box* x = &b.boxes[i]
    cdef uint32_t k, n = x.n_dport if which == LIST_DPORT else x.n_sport if which == LIST_SPORT else 0
    cdef uint32_t at = x.dport_list if which == LIST_DPORT else x.sport_list
    cdef uint32_t total = 0
    if n == 0:
        return b.high[which][i] - b.low[which][i] + 1
    for k in range(n):
        total += port_class(b, which, b.ranges[at + k].high) - port_class(b, which, b.ranges[at + k].low) + 1
    return total


cdef void choose_homes(Build* b) noexcept nogil:
    """Where each rule lives; LIST_REST when no field is narrow for it."""
    cdef uint32_t i, k, cover
    cdef uint64_t cost, best
    for i in range(b.n):
        best = <uint64_t>b.n * 4            # living in the rest costs every packet a look
        b.home[i] = LIST_REST
        for k in range(4):
            if b.low[k][i] == 0 and b.high[k][i] == b.bounds[k].n:
                continue                    # asks nothing of this field
            cover = covered(b, k, i)
            if k >= LIST_DPORT and cover > COVER_PORTS:
                continue
            cost = <uint64_t>b.crowd[k][i] * 4 + (cover if cover < COVER_LIST else COVER_LIST)
            if cost < best:
                best = cost
                b.home[i] = <uint8_t>k
                if k <= LIST_DST and cover > COVER_LIST:
                    b.home[i] = <uint8_t>(NODE_SRC + k)


cdef inline uint64_t node_key(const Build* b, uint32_t which, uint32_t i) noexcept nogil:
    """Sorts an outer prefix before those inside it."""
    return (<uint64_t>b.low[which][i] << 32) | <uint32_t>(~b.high[which][i])


cdef uint32_t node_of(const Build* b, uint32_t which, uint64_t key) noexcept nogil:
    cdef uint32_t first = 0, last = b.n_keys[which], middle
    while first < last:
        middle = (first + last) >> 1
        if b.keys[which][middle] < key:
            first = middle + 1
        else:
            last = middle
    return first + 1


cdef void make_nodes(Build* b, uint32_t which) noexcept nogil:
    """Nodes of an address field and their parents.  Rules of one that is nested too deep, or cuts another, go to the rest."""
    cdef uint32_t i, n = 0, depth = 0, high, node
    cdef uint32_t stack[9]
    cdef uint64_t* keys = b.keys[which]
    for i in range(b.n):
        if b.home[i] == NODE_SRC + which:
            keys[n] = node_key(b, which, i)
            n += 1
    qsort(keys, n, 8, compare64)
    b.n_keys[which] = 0
    for i in range(n):
        if b.n_keys[which] and keys[b.n_keys[which] - 1] == keys[i]:
            continue
        keys[b.n_keys[which]] = keys[i]
        b.n_keys[which] += 1
    for i in range(b.n_keys[which]):
        while depth and <uint32_t>(keys[i] >> 32) > ~<uint32_t>keys[stack[depth - 1]]:
            depth -= 1
        high = ~<uint32_t>keys[i]
        b.parent[which][i + 1] = stack[depth - 1] + 1 if depth else 0
        if depth >= NODE_DEPTH or (depth and high > ~<uint32_t>keys[stack[depth - 1]]):
            b.parent[which][i + 1] = NO_NODE
            continue
        stack[depth] = i
        depth += 1
    for i in range(b.n):
        if b.home[i] == NODE_SRC + which:
            node = node_of(b, which, node_key(b, which, i))
            if b.parent[which][node] == NO_NODE:
                b.home[i] = LIST_REST


cdef void fill_nodes(const Build* b, uint32_t which, uint32_t* inner, IndexNode* nodes, IndexEntry* entries,
                     uint32_t* entry) noexcept nogil:
    """The node table of a field, the innermost node of each class, and the nodes' rules from entries[entry] on."""
    cdef uint32_t i, k, node, n = b.n_keys[which]
    memset(nodes, 0, (n + 1) * sizeof(IndexNode))
    for i in range(b.n):
        if b.home[i] == NODE_SRC + which:
            nodes[node_of(b, which, node_key(b, which, i))].n += 1
    for node in range(1, n + 1):
        nodes[node].parent = b.parent[which][node] if b.parent[which][node] != NO_NODE else 0
        nodes[node].first = entry[0]
        entry[0] += nodes[node].n
        if b.parent[which][node] == NO_NODE:
            continue
        for k in range(<uint32_t>(b.keys[which][node - 1] >> 32), <uint64_t>(<uint32_t>(~<uint32_t>b.keys[which][node - 1])) + 1):
            inner[k] = node                 # an inner node comes later and writes over the outer one
        nodes[node].n = 0
    for i in range(b.n):
        if b.home[i] == NODE_SRC + which:
            node = node_of(b, which, node_key(b, which, i))
            fill_entry(b, i, &entries[nodes[node].first + nodes[node].n])
            nodes[node].n += 1


cdef void count_homes(Build* b) noexcept nogil:
    cdef uint32_t i
    for i in range(b.n):
        b.n_homes[b.home[i]] += 1
        b.n_entries += covered(b, b.home[i], i) if b.home[i] < LIST_REST else 1


cdef inline bint lives_in(const Build* b, uint32_t i, uint32_t which, uint32_t* part, uint32_t* low, uint32_t* high) noexcept nogil:
    """Iterate over the class intervals of rule i in its field: part counts up from 0.  False: no more."""
    cdef const Box* x = &b.boxes[i]
    cdef uint32_t n = x.n_dport if which == LIST_DPORT else x.n_sport if which == LIST_SPORT else 0
    cdef uint32_t at = x.dport_list if which == LIST_DPORT else x.sport_list
    if n == 0:
        if part[0]:
            return False
        low[0] = b.low[which][i]
        high[0] = b.high[which][i]
    else:
        if part[0] >= n:
            return False
        low[0] = port_class(b, which, b.ranges[at + part[0]].low)
        high[0] = port_class(b, which, b.ranges[at + part[0]].high)
    part[0] += 1
    return True


cdef void fill_entry(const Build* b, uint32_t i, IndexEntry* e) noexcept nogil:
    cdef const Box* x = &b.boxes[i]
    e.rule = b.first_rule + i
    e.src_low = b.low[LIST_SRC][i]
    e.src_high = b.high[LIST_SRC][i]
    e.dst_low = b.low[LIST_DST][i]
    e.dst_high = b.high[LIST_DST][i]
    e.sport_low = x.sport_low
    e.sport_high = x.sport_high
    e.dport_low = x.dport_low
    e.dport_high = x.dport_high
    e.proto_low = x.proto_low
    e.proto_high = x.proto_high
    e.ctmask = x.ctmask
    e.pad = 0


cdef uint32_t count_lists(const Build* b, uint32_t which, uint32_t* starts, uint32_t entry) noexcept nogil:
    """starts[class] = first entry of its list, from `entry` on; returns the entry behind the last."""
    cdef uint32_t i, k, low = 0, high = 0, part, n = b.bounds[which].n
    memset(starts, 0, (n + 2) * sizeof(uint32_t))
    for i in range(b.n):
        if b.home[i] != which:
            continue
        part = 0
        while lives_in(b, i, which, &part, &low, &high):
            for k in range(low, high + 1):
                starts[k + 1] += 1
    starts[0] = entry
    for k in range(n + 1):
        starts[k + 1] += starts[k]
    return starts[n + 1]


cdef void fill_lists(const Build* b, uint32_t which, const uint32_t* starts, uint32_t* cursor, IndexEntry* entries) noexcept nogil:
    """Put each rule into the lists of the classes it covers; rules come in order, so lists are sorted."""
    cdef uint32_t i, k, low = 0, high = 0, part
    memcpy(cursor, starts, (b.bounds[which].n + 2) * sizeof(uint32_t))
    for i in range(b.n):
        if b.home[i] != which:
            continue
        part = 0
        while lives_in(b, i, which, &part, &low, &high):
            for k in range(low, high + 1):
                fill_entry(b, i, &entries[cursor[k]])
                cursor[k] += 1


cdef void fill_top(const Bounds* b, uint32_t* top) noexcept nogil:
    """top[v] = boundaries whose top 16 bits are below v."""
    cdef uint32_t i, v = 0
    for i in range(b.n):
        while v <= (<const uint32_t*>b.values)[i] >> 16:
            top[v] = i
            v += 1
    while v <= 65536:
        top[v] = b.n
        v += 1


cdef inline uint32_t aligned(uint32_t n) noexcept nogil:
    return (n + 31) & ~<uint32_t>31


cdef bytes lay_out(Build* b):
    """The index as bytes: header, class tables, lists, entries."""
    cdef IndexHeader h
    cdef uint32_t k, at = aligned(sizeof(IndexHeader)), most = 0
    memset(&h, 0, sizeof(h))
    h.wide = b.wide
    h.n_rules = b.n
    h.n_rest = b.n_homes[<int>LIST_REST]
    for k in range(4):
        h.field[k].n = b.bounds[k].n
        h.field[k].bounds = at
        at = aligned(at + b.bounds[k].n * b.bounds[k].width)
        if k <= LIST_DST and not b.wide and b.bounds[k].n >= TOP_FROM:
            h.field[k].top = at
            at = aligned(at + 65537 * sizeof(uint32_t))
        if b.n_homes[k]:
            h.field[k].lists = at
            at = aligned(at + (b.bounds[k].n + 2) * sizeof(uint32_t))
        if k <= LIST_DST and b.n_homes[NODE_SRC + k]:
            h.field[k].inner = at
            at = aligned(at + (b.bounds[k].n + 1) * sizeof(uint32_t))
            h.field[k].nodes = at
            at = aligned(at + (b.n_keys[k] + 1) * sizeof(IndexNode))
        most = max(most, b.bounds[k].n)
    h.entries = at
    h.size = at + b.n_entries * sizeof(IndexEntry)
    block = bytearray(h.size)
    cdef uint8_t* out = block
    cdef uint32_t* cursor = <uint32_t*>malloc((most + 2) * sizeof(uint32_t))
    if cursor == NULL:
        raise MemoryError
    with nogil:
        write_out(b, &h, out, cursor)
    free(cursor)
    return bytes(block)


cdef void write_out(const Build* b, IndexHeader* h, uint8_t* out, uint32_t* cursor) noexcept nogil:
    cdef uint32_t k, i, entry = 0
    cdef IndexEntry* entries = <IndexEntry*>(out + h.entries)
    for k in range(4):
        memcpy(out + h.field[k].bounds, b.bounds[k].values, b.bounds[k].n * b.bounds[k].width)
        if h.field[k].top:
            fill_top(&b.bounds[k], <uint32_t*>(out + h.field[k].top))
        if h.field[k].lists:
            entry = count_lists(b, k, <uint32_t*>(out + h.field[k].lists), entry)
            fill_lists(b, k, <const uint32_t*>(out + h.field[k].lists), cursor, entries)
        if h.field[k].inner:
            fill_nodes(b, k, <uint32_t*>(out + h.field[k].inner), <IndexNode*>(out + h.field[k].nodes), entries, &entry)
    h.rest = entry
    for i in range(b.n):
        if b.home[i] == LIST_REST:
            fill_entry(b, i, &entries[entry])
            entry += 1
    memcpy(out, h, sizeof(IndexHeader))


def build_index(boxes, ranges, uint32_t first_rule, bint wide) -> bytes:
    """Index of one chain.

    boxes: Box structs of its rules in order; ranges: Range16 structs that they refer to; first_rule: rule row of the first;
    wide: IPv6.  The result is placed into a Program's data, 32-byte aligned, and named by its ChainRow.
    """
    cdef Build b
    cdef bytes box_bytes = bytes(boxes), range_bytes = bytes(ranges) or b"\0\0\0\0"
    cdef uint32_t k, extra
    cdef uint64_t* scratch = NULL
    memset(&b, 0, sizeof(b))
    b.boxes = <const Box*><const char*>box_bytes
    b.ranges = <const Range16*><const char*>range_bytes
    b.n = len(box_bytes) // sizeof(Box)
    b.wide = wide
    b.first_rule = first_rule
    extra = len(range_bytes) // sizeof(Range16)
    try:
        for k in range(4):
            b.bounds[k].width = 16 if wide and k <= LIST_DST else 4
            b.bounds[k].values = <uint8_t*>malloc((2 * b.n + 2 * extra + 2) * b.bounds[k].width)
            b.low[k] = <uint32_t*>malloc(b.n * sizeof(uint32_t))
            b.high[k] = <uint32_t*>malloc(b.n * sizeof(uint32_t))
            b.crowd[k] = <uint32_t*>malloc(b.n * sizeof(uint32_t))
            if b.bounds[k].values == NULL or b.low[k] == NULL or b.high[k] == NULL or b.crowd[k] == NULL:
                raise MemoryError
        for k in range(2):
            b.keys[k] = <uint64_t*>malloc((b.n + 1) * sizeof(uint64_t))
            b.parent[k] = <uint32_t*>malloc((b.n + 2) * sizeof(uint32_t))
            if b.keys[k] == NULL or b.parent[k] == NULL:
                raise MemoryError
        b.home = <uint8_t*>malloc(b.n)
        b.order = <uint32_t*>malloc(b.n * sizeof(uint32_t))
        scratch = <uint64_t*>malloc(b.n * sizeof(uint64_t))
        if b.home == NULL or b.order == NULL or scratch == NULL:
            raise MemoryError
        with nogil:
            collect(&b)
            count_crowds(&b, scratch)
            choose_homes(&b)
            make_nodes(&b, LIST_SRC)
            make_nodes(&b, LIST_DST)
            count_homes(&b)
        return lay_out(&b)
    finally:
        for k in range(4):
            free(b.bounds[k].values)
            free(b.low[k])
            free(b.high[k])
            free(b.crowd[k])
        for k in range(2):
            free(b.keys[k])
            free(b.parent[k])
        free(b.home)
        free(b.order)
        free(scratch)
