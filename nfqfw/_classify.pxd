"""The index of a chain: which rule can match next.  Readers, used by the matcher; the builder is _classify.pyx.

Overview.  A chain is not a classifier with one answer: a rule may hold its fields and still fail a stateful match, or have
a target that goes on.  So the primitive is "the next rule from here on that can match", in order.  The rules of an indexed
chain are dealt to six trees by what they are narrow in: both addresses, the destination, the source, the destination port, the
source port, nothing.  A node of a tree cuts one field into equal parts and a packet follows its own value; a leaf is a short
list, sorted by rule, whose entries carry the hull of all fields, so that most candidates are refused in 32 bytes without
touching the rule.  What remains of the six leaves is merged by rule number and judged by the rule's own tests: the index can be
switched off and nothing changes.

Fields: addresses (IPv6 in four words), ports (ICMP: type and code as the destination port), protocol, interfaces (exact names, by
a hash of 32 bits).  The class of the connection and whether the packet is a SYN are looked at in the leaves only.  For which
packets the index may be asked at all: `indexable`.  Why trees and not bit vectors: a row of bits per class of values has to be
read over the length of the chain, a leaf only over what is left of it, and its order is that of the rules.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from nfqfw._atomic cimport prefetch_read
from nfqfw._host cimport Interface
from nfqfw._packet cimport (BAD_CHAIN, CT_INVALID, CT_UNTRACKED, HAS_ICMP, HAS_L4, HAS_PORTS, HAS_TCP, HAS_UDP, Packet, be32, destination,
                            raw64, source)


cdef enum:
    TREES = 6
    TREES_ROOM = 8              # of an array with one place per tree
    NO_RULE = 0xffffffff
    LEAF = 255                  # TreeNode.field
    ANY_CLASS = 31              # bits of ct_bit()
    IS_SYN = 32                 # of FIN, SYN, RST, ACK only SYN
    NO_SYN = 64


cdef enum:                      # Cut, TreeNode.field: what a node may cut
    CUT_SRC = 0                 # IPv6: the first word
    CUT_DST
    CUT_SPORT
    CUT_DPORT
    CUT_PROTO
    CUT_IN
    CUT_OUT
    CUTS4
    CUT_SRC6 = 7                # the three words behind it
    CUT_DST6 = 10
    CUTS6 = 13
    CUTS_ROOM = 16              # of an array with one place per Cut, and one at LEAF & (CUTS_ROOM - 1)


cdef struct Box:                # what a rule asks, as build_index takes it: 100 bytes; addresses big-endian
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
    uint8_t classes             # that it accepts: ct_bit(), IS_SYN, NO_SYN
    uint8_t named               # 1 = asks for in_hash, 2 = for out_hash
    uint32_t sport_list         # exact ranges: first of them in the ranges array, and how many; 0 = the hull is exact
    uint32_t n_sport
    uint32_t dport_list
    uint32_t n_dport
    uint32_t in_hash            # name_hash() of interfaces
    uint32_t out_hash

cdef struct Range16:
    uint16_t low
    uint16_t high

cdef struct IndexEntry:         # 32 bytes; every span is high - low
    uint32_t rule               # rule row
    uint32_t src_low            # IPv6: of the second word, when the first says nothing against it
    uint32_t src_span
    uint32_t dst_low
    uint32_t dst_span
    uint16_t sport_low
    uint16_t sport_span
    uint16_t dport_low
    uint16_t dport_span
    uint8_t proto_low
    uint8_t proto_span
    uint8_t classes             # as Box.classes
    uint8_t pad


cdef struct TreeNode:           # 16 bytes
    uint32_t base               # value of the field at which the first part begins
    uint32_t first              # first child in nodes; leaf: first entry
    uint32_t n                  # children; a value beyond them has no candidates.  Leaf: entries
    uint8_t field               # Cut, or LEAF
    uint8_t shift               # a part is 1 << shift values
    uint16_t pad


cdef struct IndexHeader:        # 32 bytes
    uint32_t size
    uint8_t wide                # 1 = IPv6
    uint8_t interfaces          # 1 = some node cuts an interface
    uint8_t flags               # 1 = some rule asks whether the packet is a SYN
    uint8_t pad
    uint32_t nodes              # offset of TreeNode[]: the roots, then the rest
    uint32_t n_nodes
    uint32_t entries            # offset of IndexEntry[]
    uint32_t n_entries
    uint32_t n_rules
    uint32_t pad2


cdef struct Cursors:
    const IndexEntry* at[6]
    const IndexEntry* end[6]
    uint32_t n                  # lists of this packet
    uint32_t src
    uint32_t dst
    uint16_t sport
    uint16_t dport
    uint8_t proto
    uint8_t classes             # its own bits: one class, one of IS_SYN and NO_SYN


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


cdef inline uint32_t name_hash(const uint8_t* name) noexcept nogil:
    """Of an interface's name, NUL-padded to 16 bytes."""
    cdef uint64_t h = (raw64(name) ^ raw64(name + 8) * <uint64_t>0x9e3779b97f4a7c15) * <uint64_t>0xff51afd7ed558ccd
    return <uint32_t>(h >> 32)


cdef inline void packet_fields(const IndexHeader* h, const Packet* p, const Interface* iif, const Interface* oif, uint32_t* v) noexcept nogil:
    """The packet's value of every Cut that the index may ask for."""
    cdef const uint8_t* s = source(p)
    cdef const uint8_t* d = destination(p)
    v[CUT_SRC] = be32(s)
    v[CUT_DST] = be32(d)
    v[CUT_SPORT] = p.sport if p.flags & HAS_PORTS else 0
    v[CUT_DPORT] = p.dport if p.flags & HAS_PORTS else (<uint32_t>p.icmp_type << 8) | p.icmp_code
    v[CUT_PROTO] = p.proto
    if h.interfaces:
        v[CUT_IN] = name_hash(<const uint8_t*>iif.name) if iif != NULL else 0
        v[CUT_OUT] = name_hash(<const uint8_t*>oif.name) if oif != NULL else 0
    if h.wide:
        v[CUT_SRC6], v[CUT_SRC6 + 1], v[CUT_SRC6 + 2] = be32(s + 4), be32(s + 8), be32(s + 12)
        v[CUT_DST6], v[CUT_DST6 + 1], v[CUT_DST6 + 2] = be32(d + 4), be32(d + 8), be32(d + 12)


cdef inline uint8_t packet_classes(const Packet* p) noexcept nogil:
    """The packet's own bits of Box.classes."""
    return ct_bit(p.ctinfo) | (IS_SYN if p.tcp_flags & 0x17 == 2 else NO_SYN)


cdef inline const TreeNode* tree_nodes(const IndexHeader* h) noexcept nogil:
    """All nodes, the roots first."""
    return <const TreeNode*>(<const uint8_t*>h + h.nodes)


cdef inline const TreeNode* next_node(const IndexHeader* h, const TreeNode* node, const uint32_t* v) noexcept nogil:
    """Where a packet goes on from a node that is no leaf; NULL: this tree has nothing for it."""
    cdef uint32_t part = (v[node.field] - node.base) >> node.shift
    return tree_nodes(h) + node.first + part if part < node.n else NULL


cdef inline void cursors_take(const IndexHeader* h, Cursors* c, const TreeNode* leaf) noexcept nogil:
    """The list of a leaf, as one more."""
    if leaf.n == 0:
        return
    c.at[c.n] = <const IndexEntry*>(<const uint8_t*>h + h.entries) + leaf.first
    c.end[c.n] = c.at[c.n] + leaf.n
    prefetch_read(c.at[c.n])
    if leaf.n > 2:                      # two entries to a line
        prefetch_read(c.at[c.n] + 2)
        if leaf.n > 4:
            prefetch_read(c.at[c.n] + 4)
    c.n += 1


cdef inline void cursors_open(const IndexHeader* h, Cursors* c, const TreeNode** leaves) noexcept nogil:
    """The lists of TREES leaves, of which NOWHERE and others may be empty: how many and how long is chance, so no branches."""
    cdef const IndexEntry* entries = <const IndexEntry*>(<const uint8_t*>h + h.entries)
    cdef const IndexEntry* at
    cdef uint32_t tree, length, n = 0
    for tree in range(TREES):
        at = entries + leaves[tree].first
        length = leaves[tree].n
        c.at[n] = at
        c.end[n] = at + length
        n += length != 0
        prefetch_read(at)
        prefetch_read(at + length // 2)         # a list has LEAF_RULES or fewer where it could be cut: three lines, two entries each
        prefetch_read(at + (length - (length != 0)))
    c.n = n


cdef inline void cursors_for(const IndexHeader* h, Cursors* c, uint8_t proto, uint8_t classes, const uint32_t* v) noexcept nogil:
    """The packet's side of the compares."""
    c.src = v[CUT_SRC6] if h.wide else v[CUT_SRC]
    c.dst = v[CUT_DST6] if h.wide else v[CUT_DST]
    c.sport = <uint16_t>v[CUT_SPORT]
    c.dport = <uint16_t>v[CUT_DPORT]
    c.proto = proto
    c.classes = classes


cdef inline void index_open(const IndexHeader* h, const Packet* p, const Interface* iif, const Interface* oif, Cursors* c) noexcept nogil:
    """Find the lists of this packet.  Valid until the packet's addresses or connection class change."""
    cdef const TreeNode* node
    cdef uint32_t v[13]
    cdef uint32_t tree
    packet_fields(h, p, iif, oif, v)
    c.n = 0
    for tree in range(TREES):
        node = tree_nodes(h) + tree
        while node != NULL and node.field != LEAF:
            node = next_node(h, node, v)
        if node != NULL:
            cursors_take(h, c, node)
    cursors_for(h, c, p.proto, packet_classes(p), v)


cdef inline bint may_match(const IndexEntry* e, const Cursors* c) noexcept nogil:
    """The hull of the rule's fields holds the packet's: all compares without a branch, most entries fail."""
    return (((c.src - e.src_low) <= e.src_span) & ((c.dst - e.dst_low) <= e.dst_span)
            & (<uint16_t>(c.dport - e.dport_low) <= e.dport_span) & (<uint16_t>(c.sport - e.sport_low) <= e.sport_span)
            & (<uint8_t>(c.proto - e.proto_low) <= e.proto_span) & ((e.classes & c.classes) == c.classes))


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
