"""Builds the index of a chain (layout and idea: _classify.pxd).  Control path; the work itself is C without the GIL.

A rule brings a Box: the hull of what it asks of each field, and the exact port ranges of a multiport list.  Only tests in
front of the first one with a side effect count (a `limit` before a port test must see the packet whatever its port is),
and only fields that every packet for which the index is asked really has.  indexing.pyx fills the boxes.

A node with few rules is a leaf.  Else each field is tried: its values from the lowest to the highest that any rule of the node
asks are cut into equal parts, as many as there are rules but at most 4,096, fewer while the parts together hold more than
twice the rules (a rule lies in every part that it touches).  The field that leaves the shortest lists is taken, if it shortens
them at all.  Memory is bounded by a budget of entries for each tree: when it is used up every node becomes a leaf, however long, and the hulls
in the entries and the rules' own tests do the rest.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from nfqfw._classify cimport (CUT_DPORT, CUT_DST, CUT_DST6, CUT_IN, CUT_OUT, CUT_PROTO, CUT_SPORT, CUT_SRC, CUT_SRC6, CUTS4, CUTS6, IS_SYN, LEAF,
                              NO_SYN, TREES, Box, IndexEntry, IndexHeader, Range16, TreeNode)

cdef enum:
    LEAF_RULES = 6              # rules that need no cut
    PART_BITS = 12              # parts of a node, as a power of two
    DEEPEST = 24                # nodes above one another
    ENTRIES_PER_RULE = 8        # the budget of a tree
    FEW = 5                     # a tree of fewer rules is not worth a look of its own
    NARROW_ADDRESSES = 1 << 20  # a prefix of 12 bits and longer; IPv6: of 32
    SPARE = 8                   # what the parts may hold together besides twice the rules
    NARROW_PORTS = 256
    REST = 5                    # the tree of what is narrow in nothing

cdef struct Build:
    const Box* boxes
    const Range16* ranges
    uint32_t n
    uint32_t n_cuts
    uint32_t first_rule
    bint wide
    bint failed                 # out of memory
    bint interfaces
    bint flags
    uint32_t* low[13]           # by Cut: first and last value of each rule
    uint32_t* high[13]
    uint32_t region_low[13]     # what the node at hand holds
    uint32_t region_high[13]
    int* counts                 # of parts; scratch
    TreeNode* nodes
    uint32_t n_nodes
    uint32_t nodes_room
    IndexEntry* entries
    uint32_t n_entries
    uint32_t entries_room
    uint64_t budget

cdef struct Choice:             # a way to cut a node
    uint32_t field              # LEAF = none
    uint32_t base
    uint32_t shift
    uint32_t parts
    uint64_t held               # rules of all parts together
    double length               # of the list that a rule's packet finds, on average


cdef inline uint32_t word(const uint8_t* at) noexcept nogil:
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | at[3]


cdef inline uint32_t bits_of(uint32_t value) noexcept nogil:
    cdef uint32_t n = 0
    while value:
        n += 1
        value >>= 1
    return n


cdef void split6(Build* b, uint32_t i, const uint8_t* low, const uint8_t* high, uint32_t first, uint32_t others) noexcept nogil:
    """The words of an IPv6 hull; behind the first that differs they may be anything."""
    cdef uint32_t k, cut
    cdef bint same = True
    for k in range(4):
        cut = first if k == 0 else others + k - 1
        b.low[cut][i] = word(low + 4 * k) if same else 0
        b.high[cut][i] = word(high + 4 * k) if same else <uint32_t>0xffffffffU
        same = same and b.low[cut][i] == b.high[cut][i]


cdef void collect(Build* b) noexcept nogil:
    """What each rule asks of each field."""
    cdef uint32_t i
    cdef const Box* x
    for i in range(b.n):
        x = &b.boxes[i]
        if b.wide:
            split6(b, i, x.src_low, x.src_high, CUT_SRC, CUT_SRC6)
            split6(b, i, x.dst_low, x.dst_high, CUT_DST, CUT_DST6)
        else:
            b.low[CUT_SRC][i], b.high[CUT_SRC][i] = word(x.src_low + 12), word(x.src_high + 12)
            b.low[CUT_DST][i], b.high[CUT_DST][i] = word(x.dst_low + 12), word(x.dst_high + 12)
        b.low[CUT_SPORT][i], b.high[CUT_SPORT][i] = x.sport_low, x.sport_high
        b.low[CUT_DPORT][i], b.high[CUT_DPORT][i] = x.dport_low, x.dport_high
        b.low[CUT_PROTO][i], b.high[CUT_PROTO][i] = x.proto_low, x.proto_high
        b.low[CUT_IN][i] = x.in_hash if x.named & 1 else 0
        b.high[CUT_IN][i] = x.in_hash if x.named & 1 else <uint32_t>0xffffffffU
        b.low[CUT_OUT][i] = x.out_hash if x.named & 2 else 0
        b.high[CUT_OUT][i] = x.out_hash if x.named & 2 else <uint32_t>0xffffffffU
        if x.classes & (IS_SYN | NO_SYN) != IS_SYN | NO_SYN:
            b.flags = True


# ---- which tree -------------------------------------------------------------------------------------------------------

cdef inline bint narrow_address(const Build* b, uint32_t i, uint32_t first) noexcept nogil:
    if b.wide:
        return b.low[first][i] == b.high[first][i]
    return b.high[first][i] - b.low[first][i] < NARROW_ADDRESSES


cdef inline bint narrow_port(const Build* b, uint32_t i, uint32_t field) noexcept nogil:
    """Lists count their ranges, not their hull."""
    cdef const Box* x = &b.boxes[i]
    cdef uint32_t n = x.n_dport if field == CUT_DPORT else x.n_sport, at = x.dport_list if field == CUT_DPORT else x.sport_list
    cdef uint32_t k, total = 0
    if n == 0:
        return b.high[field][i] - b.low[field][i] < NARROW_PORTS
    for k in range(n):
        total += b.ranges[at + k].high - b.ranges[at + k].low + 1
    return total <= NARROW_PORTS


cdef inline uint32_t tree_of(const Build* b, uint32_t i) noexcept nogil:
    cdef bint src = narrow_address(b, i, CUT_SRC), dst = narrow_address(b, i, CUT_DST)
    if src and dst:
        return 0
    if dst:
        return 1
    if src:
        return 2
    if narrow_port(b, i, CUT_DPORT):
        return 3
    return 4 if narrow_port(b, i, CUT_SPORT) else REST


# ---- nodes ------------------------------------------------------------------------------------------------------------

cdef inline bint next_part(const Build* b, uint32_t i, uint32_t field, const Choice* c, uint32_t* k, uint32_t* first, uint32_t* last) noexcept nogil:
    """Iterate over the runs of parts that rule i touches: k counts up from 0, each run begins behind the one before.  False: no more."""
    cdef const Box* x = &b.boxes[i]
    cdef uint32_t n = x.n_dport if field == CUT_DPORT else x.n_sport if field == CUT_SPORT else 0
    cdef uint32_t at = x.dport_list if field == CUT_DPORT else x.sport_list
    cdef uint32_t low, high, begin = last[0] + 1 if k[0] else 0
    while k[0] < (n if n else 1):
        low = b.ranges[at + k[0]].low if n else b.low[field][i]
        high = b.ranges[at + k[0]].high if n else b.high[field][i]
        k[0] += 1
        low = max(low, b.region_low[field])
        high = min(high, b.region_high[field])
        if low > high:
            continue
        low = max((low - c.base) >> c.shift, begin)
        high = (high - c.base) >> c.shift
        if low > high:
            continue
        first[0] = low
        last[0] = high
        return True
    return False


cdef void weigh(Build* b, const uint32_t* ids, uint32_t n, Choice* c) noexcept nogil:
    """Count what the parts of a cut would hold."""
    cdef uint32_t i, k, first = 0, last = 0
    cdef int sum_ = 0
    cdef double squares = 0
    memset(b.counts, 0, (c.parts + 2) * sizeof(int))
    for i in range(n):
        k = last = 0
        while next_part(b, ids[i], c.field, c, &k, &first, &last):
            b.counts[first] += 1
            b.counts[last + 1] -= 1
    c.held = 0
    for i in range(c.parts):
        sum_ += b.counts[i]
        c.held += sum_
        squares += <double>sum_ * sum_
    c.length = squares / c.held if c.held else 0


cdef void try_field(Build* b, const uint32_t* ids, uint32_t n, uint32_t field, Choice* best) noexcept nogil:
    """Cut the node by this field, if that is better than `best`."""
    cdef Choice c
    cdef uint32_t i, low = 0xffffffff, high = 0, width, bits
    cdef uint32_t covers = 0, from_, to
    for i in range(n):
        from_ = max(b.low[field][ids[i]], b.region_low[field])
        to = min(b.high[field][ids[i]], b.region_high[field])
        low = min(low, from_)
        high = max(high, to)
        covers += b.low[field][ids[i]] <= b.region_low[field] and b.high[field][ids[i]] >= b.region_high[field]
    if low >= high or covers == n:
        return
    width = bits_of(high - low)
    bits = min(min(<uint32_t>PART_BITS, bits_of(n)), width)
    c.field = field
    c.base = low
    while bits > 0:
        c.shift = width - bits
        c.parts = ((high - low) >> c.shift) + 1
        weigh(b, ids, n, &c)
        if c.held <= 2 * <uint64_t>n + SPARE:
            break
        bits = bits - 2 if bits > 2 else bits - 1
    if bits and c.length < best.length:
        best[0] = c


cdef void make_leaf(Build* b, const uint32_t* ids, uint32_t n, uint32_t node) noexcept nogil:
    cdef uint32_t i, room, src = CUT_SRC6 if b.wide else CUT_SRC, dst = CUT_DST6 if b.wide else CUT_DST
    cdef IndexEntry* e
    cdef const Box* x
    if b.n_entries + n > b.entries_room:
        room = 2 * b.entries_room + n
        e = <IndexEntry*>realloc(b.entries, <size_t>room * sizeof(IndexEntry))
        if e == NULL:
            b.failed = True
            return
        b.entries, b.entries_room = e, room
    b.nodes[node].field = LEAF
    b.nodes[node].first, b.nodes[node].n = b.n_entries, n
    for i in range(n):
        e = &b.entries[b.n_entries + i]
        x = &b.boxes[ids[i]]
        e.rule = b.first_rule + ids[i]
        e.src_low, e.src_span = b.low[src][ids[i]], b.high[src][ids[i]] - b.low[src][ids[i]]
        e.dst_low, e.dst_span = b.low[dst][ids[i]], b.high[dst][ids[i]] - b.low[dst][ids[i]]
        e.sport_low, e.sport_span = x.sport_low, x.sport_high - x.sport_low
        e.dport_low, e.dport_span = x.dport_low, x.dport_high - x.dport_low
        e.proto_low, e.proto_span = x.proto_low, x.proto_high - x.proto_low
        e.classes, e.pad = x.classes, 0
    b.n_entries += n


cdef uint32_t new_nodes(Build* b, uint32_t n) noexcept nogil:
    """The first of n nodes, which are empty leaves."""
    cdef uint32_t i, room
    cdef TreeNode* more
    if b.n_nodes + n > b.nodes_room:
        room = 2 * b.nodes_room + n
        more = <TreeNode*>realloc(b.nodes, <size_t>room * sizeof(TreeNode))
        if more == NULL:
            b.failed = True
            return 0
        b.nodes, b.nodes_room = more, room
    memset(b.nodes + b.n_nodes, 0, n * sizeof(TreeNode))
    for i in range(n):
        b.nodes[b.n_nodes + i].field = LEAF
    b.n_nodes += n
    return b.n_nodes - n


cdef void make_node(Build* b, const uint32_t* ids, uint32_t n, uint32_t node, uint32_t depth) noexcept nogil:
    """Fill a node, and all below it, with these rules."""
    cdef Choice best
    cdef uint32_t field
    best.field = LEAF
    best.length = 0.75 * n
    if n > LEAF_RULES and depth < DEEPEST and b.n_entries < b.budget:
        for field in range(b.n_cuts):
            try_field(b, ids, n, field, &best)
    if best.field == LEAF:
        make_leaf(b, ids, n, node)
    else:
        make_children(b, ids, n, node, depth, &best)


cdef void make_children(Build* b, const uint32_t* ids, uint32_t n, uint32_t node, uint32_t depth, const Choice* c) noexcept nogil:
    cdef uint32_t* starts = <uint32_t*>malloc((c.parts + 2) * sizeof(uint32_t))
    cdef uint32_t* lists = <uint32_t*>malloc((c.held + 1) * sizeof(uint32_t))
    cdef uint32_t first = new_nodes(b, c.parts), low = b.region_low[c.field], high = b.region_high[c.field], i
    if starts != NULL and lists != NULL and not b.failed:
        b.nodes[node].field, b.nodes[node].shift = <uint8_t>c.field, <uint8_t>c.shift
        b.nodes[node].base, b.nodes[node].first, b.nodes[node].n = c.base, first, c.parts
        if c.field == CUT_IN or c.field == CUT_OUT:
            b.interfaces = True
        deal(b, ids, n, c, starts, lists)
        for i in range(c.parts):
            if b.failed or starts[i] == starts[i + 1]:
                continue
            if i and same_list(starts, lists, i) and b.nodes[first + i - 1].field == LEAF:
                b.nodes[first + i] = b.nodes[first + i - 1]
                continue
            b.region_low[c.field] = max(low, c.base + (i << c.shift))
            b.region_high[c.field] = <uint32_t>min(<uint64_t>high, c.base + ((<uint64_t>i + 1) << c.shift) - 1)
            make_node(b, lists + starts[i], starts[i + 1] - starts[i], first + i, depth + 1)
        b.region_low[c.field], b.region_high[c.field] = low, high
    else:
        b.failed = True
    free(starts)
    free(lists)


cdef inline bint same_list(const uint32_t* starts, const uint32_t* lists, uint32_t i) noexcept nogil:
    """Part i holds the rules of the part before it."""
    cdef uint32_t n = starts[i + 1] - starts[i]
    return n == starts[i] - starts[i - 1] and memcmp(lists + starts[i - 1], lists + starts[i], n * sizeof(uint32_t)) == 0


cdef void deal(Build* b, const uint32_t* ids, uint32_t n, const Choice* c, uint32_t* starts, uint32_t* lists) noexcept nogil:
    """lists[starts[part]..starts[part + 1]]: the rules of each part, in order."""
    cdef uint32_t i, k, part, first = 0, last = 0
    memset(starts, 0, (c.parts + 2) * sizeof(uint32_t))
    for i in range(n):
        k = last = 0
        while next_part(b, ids[i], c.field, c, &k, &first, &last):
            for part in range(first, last + 1):
                starts[part + 2] += 1
    for part in range(2, c.parts + 2):
        starts[part] += starts[part - 1]
    for i in range(n):
        k = last = 0
        while next_part(b, ids[i], c.field, c, &k, &first, &last):
            for part in range(first, last + 1):
                lists[starts[part + 1]] = ids[i]
                starts[part + 1] += 1


cdef void build(Build* b, uint32_t* ids) noexcept nogil:
    """All trees.  ids: room for the numbers of all rules."""
    cdef uint32_t sizes[6]
    cdef uint8_t* tree = <uint8_t*>malloc(b.n + 1)
    cdef uint32_t i, k, n
    if tree == NULL:
        b.failed = True
        return
    collect(b)
    memset(sizes, 0, sizeof(sizes))
    for i in range(b.n):
        tree[i] = <uint8_t>tree_of(b, i)
        sizes[tree[i]] += 1
    for i in range(b.n):
        if sizes[tree[i]] < FEW:
            tree[i] = REST
    new_nodes(b, TREES)
    for k in range(TREES):
        n = 0
        for i in range(b.n):
            if tree[i] == k:
                ids[n] = i
                n += 1
        memset(b.region_low, 0, sizeof(b.region_low))
        memset(b.region_high, 0xff, sizeof(b.region_high))
        if n and not b.failed:
            b.budget = b.n_entries + ENTRIES_PER_RULE * <uint64_t>n
            make_node(b, ids, n, k, 0)
    free(tree)


cdef bytes lay_out(const Build* b):
    """The index as bytes: header, nodes, entries."""
    cdef IndexHeader h
    memset(&h, 0, sizeof(h))
    h.wide, h.interfaces, h.flags = b.wide, b.interfaces, b.flags
    h.n_rules, h.n_nodes, h.n_entries = b.n, b.n_nodes, b.n_entries
    h.nodes = sizeof(h)
    h.entries = h.nodes + b.n_nodes * sizeof(TreeNode)
    h.size = h.entries + b.n_entries * sizeof(IndexEntry)
    return ((<const char*>&h)[:sizeof(h)] + (<const char*>b.nodes)[:b.n_nodes * sizeof(TreeNode)]
            + (<const char*>b.entries)[:b.n_entries * sizeof(IndexEntry)] if b.n_entries else b"")


cdef bint box_fits(const Box* x, uint64_t n_ranges) noexcept nogil:
    """Are its lists among the ranges, and its hulls not upside down?"""
    return (<uint64_t>x.sport_list + x.n_sport <= n_ranges and <uint64_t>x.dport_list + x.n_dport <= n_ranges
            and x.sport_low <= x.sport_high and x.dport_low <= x.dport_high and x.proto_low <= x.proto_high
            and memcmp(x.src_low, x.src_high, 16) <= 0 and memcmp(x.dst_low, x.dst_high, 16) <= 0)


def build_index(boxes, ranges, uint32_t first_rule, bint wide) -> bytes:
    """Index of one chain.

    boxes: Box structs of its rules in order; ranges: Range16 structs that they refer to; first_rule: rule row of the first;
    wide: IPv6.  The result is placed into a Program's data and named by its ChainRow.  ValueError: they do not hold together.
    """
    cdef Build b
    cdef bytes box_bytes = bytes(boxes), range_bytes = bytes(ranges) or b"\0\0\0\0"
    cdef uint32_t k
    cdef uint64_t n_ranges = len(range_bytes) // sizeof(Range16) if ranges else 0
    cdef uint32_t* memory
    memset(&b, 0, sizeof(b))
    b.boxes = <const Box*><const char*>box_bytes
    b.ranges = <const Range16*><const char*>range_bytes
    b.n = len(box_bytes) // sizeof(Box)
    if len(box_bytes) % sizeof(Box) or len(range_bytes) % sizeof(Range16):
        raise ValueError("part of a box, or of a range")
    for k in range(b.n):
        if not box_fits(&b.boxes[k], n_ranges):
            raise ValueError(f"box {k} does not hold together")
    for k in range(n_ranges):
        if b.ranges[k].low > b.ranges[k].high:
            raise ValueError(f"range {k} does not hold together")
    b.wide = wide
    b.n_cuts = CUTS6 if wide else CUTS4
    b.first_rule = first_rule
    memory = <uint32_t*>malloc((2 * b.n_cuts + 1) * <size_t>(b.n + 1) * sizeof(uint32_t))
    b.counts = <int*>malloc(((1 << PART_BITS) + 2) * sizeof(int))
    try:
        if memory == NULL or b.counts == NULL:
            raise MemoryError
        for k in range(b.n_cuts):
            b.low[k] = memory + (2 * k) * <size_t>(b.n + 1)
            b.high[k] = memory + (2 * k + 1) * <size_t>(b.n + 1)
        with nogil:
            build(&b, memory + 2 * b.n_cuts * <size_t>(b.n + 1))
        if b.failed:
            raise MemoryError
        return lay_out(&b)
    finally:
        free(memory)
        free(b.counts)
        free(b.nodes)
        free(b.entries)
