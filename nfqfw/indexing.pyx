"""What the index of a chain may know of each rule: the hull of its fields, as `_classify.build_index` takes it.

A lowered test brings FieldSets: conditions without which it is false.  They count up to the first test that may act or
drop before its answer is known (TRANSPARENT lists the others): behind a `limit` nothing may be taken for granted.

`Fields` is what the tests of one match say, worked out once per match; `Boxes` takes the rules of a chain in order and adds
what their own parts say.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

from nfqfw._classify cimport ANY_CLASS, IS_SYN, NO_SYN, Box, name_hash
from nfqfw.rules._rule cimport INV_DST, INV_IN, INV_OUT, INV_PROTO, INV_SRC, Rule

import os

from nfqfw._classify import build_index
from nfqfw.ext.lowering import READS_PACKET

FROM = 17                           # rules from which an index beats the walk (bench/classify.py)

# Tests without side effects whose only hotdrops are those of packets that `indexable` (_classify.pxd) turns away.
TRANSPARENT = frozenset(("src4", "dst4", "src6", "dst6", "in", "out", "proto", "fragment", "tcp", "udp", "icmp", "icmp6",
                         "multiport", "conntrack", "state", "mark", "iprange", "addrtype", "pkttype", "devgroup", "connmark", "length",
                         "tos", "ttl"))
CT_BITS = ((2, 1), (4, 2), (8, 4), (256, 8), (1, 16))   # FieldSet ctstate bit -> ct_bit() of _classify.pxd

cdef enum:
    EXACT_RANGES = 16               # ranges of a port list kept one by one; a longer list counts as its hull

cdef enum Field:
    SADDR = 0
    DADDR = 1
    SPORT = 2
    DPORT = 3
    PROTO = 4
    CTSTATE = 5
    TCP_FLAGS = 6
    N_FIELDS = 7

FIELDS = {"saddr": SADDR, "daddr": DADDR, "sport": SPORT, "dport": DPORT, "proto": PROTO, "ctstate": CTSTATE, "tcp_flags": TCP_FLAGS,
          "icmp": DPORT}                # type and code stand where other protocols have the destination port


def wanted() -> bool:
    """Whether chains get an index at all: unless the environment says NFQFW_INDEX=0."""
    return os.environ.get("NFQFW_INDEX") != "0"


def flags_mask(ranges) -> int:
    """Whether packets pass that are a SYN, and that are none."""
    passed = [value & 0x17 == 2 for low, high in ranges for value in range(low, high + 1)]
    return (IS_SYN if True in passed else 0) | (NO_SYN if False in passed else 0)


def ct_mask(ranges) -> int:
    return sum(bit for value, bit in CT_BITS if any(low <= value <= high for low, high in ranges))


cdef class Fields:
    """What the tests of one match say of the fields that the index knows."""

    def __cinit__(self, list tests):
        """tests: lowering.Test in their order."""
        cdef uint32_t room = 0, pairs = 0
        cdef tuple ranges
        for test in tests:
            for _, ranges in test.fields:
                room += 1
                pairs += len(ranges)
        self.conditions = <Condition*>malloc(max(1, room) * sizeof(Condition))
        self.pairs = <uint16_t*>malloc(max(1, pairs) * 2 * sizeof(uint16_t))
        if self.conditions == NULL or self.pairs == NULL:
            raise MemoryError
        for test in tests:
            if test.op not in TRANSPARENT:
                self.opaque = True
                return
            for name, ranges in test.fields:
                if name in FIELDS and ranges:
                    self.take(FIELDS[name], ranges)
            if test.op == "tcp" and test.reads & READS_PACKET:       # an option: it may find the header cut, and drop
                self.opaque = True
                return

    cdef int take(self, int field, tuple ranges) except -1:
        """One condition."""
        cdef Condition* at = &self.conditions[self.n]
        cdef uint32_t n = len(ranges), i
        cdef uint16_t low, high
        memset(at, 0, sizeof(Condition))
        at.field = field
        if field == CTSTATE:
            at.mask = ct_mask(ranges)
        elif field == TCP_FLAGS:
            at.mask = flags_mask(ranges)
        big_endian(at.low, ranges[0][0])
        big_endian(at.high, ranges[n - 1][1])
        at.pair = self.n_pairs
        if (field == SPORT or field == DPORT) and 1 < n <= EXACT_RANGES:
            at.n = n
        for i in range(n):
            first, last = ranges[i]
            at.size += <double>(last - first + 1)
            if at.n:
                low, high = first, last
                self.pairs[2 * self.n_pairs] = low
                self.pairs[2 * self.n_pairs + 1] = high
                self.n_pairs += 1
        self.n += 1
        return 0

    def __dealloc__(self):
        free(self.conditions)
        free(self.pairs)


cdef int big_endian(uint8_t* out, number) except -1:
    """A field's value in 16 bytes."""
    cdef uint32_t small
    cdef bytes wide
    if number <= 0xffffffff:
        small = number
        out[12], out[13], out[14], out[15] = small >> 24, (small >> 16) & 0xff, (small >> 8) & 0xff, small & 0xff
        return 0
    wide = number.to_bytes(16, "big")
    memcpy(out, <const char*>wide, 16)
    return 0


cdef class Boxes:
    """Boxes of one chain's rules, in order.  family: 2 or 10."""

    def __cinit__(self, int family):
        self.wide = family == 10

    def __dealloc__(self):
        free(self.boxes)
        free(self.ranges)

    cdef int add(self, Rule rule, list fields) except -1:
        """The next rule, with the Fields of its matches."""
        cdef Box* box
        cdef Fields one
        cdef const Condition* c
        cdef uint32_t i
        if self.n == self.room:
            self.room = 2 * self.room + 64
            box = <Box*>realloc(self.boxes, self.room * sizeof(Box))
            if box == NULL:
                raise MemoryError
            self.boxes = box
        box = &self.boxes[self.n]
        self.n += 1
        own_part(box, rule, self.wide)
        memset(self.best, 0, sizeof(self.best))
        for one in fields:
            for i in range(one.n):
                c = &one.conditions[i]
                if self.best[c.field] == NULL or c.size < self.best[c.field].size:
                    self.best[c.field] = c
                    self.best_pairs[c.field] = one.pairs + 2 * c.pair
            if one.opaque:
                break
        for i in range(N_FIELDS):
            if self.best[i] != NULL:
                narrow(box, self.best[i], rule, self.wide)
        self.exact(SPORT, &box.sport_list, &box.n_sport)
        self.exact(DPORT, &box.dport_list, &box.n_dport)
        return 0

    cdef int exact(self, int field, uint32_t* first, uint32_t* number) except -1:
        """Keep the exact ranges of a port list; (0, 0) when the hull says it all."""
        cdef const Condition* c = self.best[field]
        cdef uint16_t* more
        first[0] = number[0] = 0
        if c == NULL or c.n == 0:
            return 0
        if self.n_ranges + c.n > self.ranges_room:
            self.ranges_room = 2 * self.ranges_room + 64
            more = <uint16_t*>realloc(self.ranges, self.ranges_room * 2 * sizeof(uint16_t))
            if more == NULL:
                raise MemoryError
            self.ranges = more
        memcpy(self.ranges + 2 * self.n_ranges, self.best_pairs[field], c.n * 2 * sizeof(uint16_t))
        first[0], number[0] = self.n_ranges, c.n
        self.n_ranges += c.n
        return 0

    def build(self, uint32_t first_rule) -> bytes:
        """The chain's index; first_rule is the rule row of its first rule."""
        return build_index(<bytes>(<const char*>self.boxes)[:self.n * sizeof(Box)] if self.n else b"",
                           <bytes>(<const char*>self.ranges)[:self.n_ranges * 4] if self.n_ranges else b"", first_rule, self.wide)


cdef void own_part(Box* box, Rule rule, bint wide) noexcept:
    """What addresses and protocol of the rule ask; everything else full."""
    memset(box, 0, sizeof(Box))
    address_hull(box.src_low, box.src_high, rule.source, rule.source_mask, rule.inverted & INV_SRC, wide)
    address_hull(box.dst_low, box.dst_high, rule.destination, rule.destination_mask, rule.inverted & INV_DST, wide)
    box.sport_high = box.dport_high = 65535
    box.proto_high = 255
    box.classes = ANY_CLASS | IS_SYN | NO_SYN
    if exact_name(rule.in_interface, rule.inverted & INV_IN, &box.in_hash):
        box.named |= 1
    if exact_name(rule.out_interface, rule.inverted & INV_OUT, &box.out_hash):
        box.named |= 2
    if rule.protocol == 0:
        return
    if not rule.inverted & INV_PROTO:
        box.proto_low = box.proto_high = rule.protocol
    elif rule.protocol == 255:
        box.proto_high = 254


cdef bint exact_name(str name, bint inverted, uint32_t* hash_) noexcept:
    """The hash of an interface that the rule asks for by its whole name."""
    cdef uint8_t padded[16]
    cdef bytes raw
    if not name or inverted or name.endswith("+"):
        return False
    raw = name.encode(errors="surrogateescape")
    if len(raw) > 15:
        return False
    memset(padded, 0, 16)
    memcpy(padded, <const char*>raw, len(raw))
    hash_[0] = name_hash(padded)
    return True


cdef void address_hull(uint8_t* low, uint8_t* high, bytes address, bytes mask, bint inverted, bint wide) noexcept:
    """Lowest and highest address that pass; a mask that is no prefix, or that leaves nothing, says nothing."""
    cdef const uint8_t* a
    cdef const uint8_t* m
    cdef uint32_t i, size = 16 if wide else 4, from_ = 16 - size
    cdef bint at_start = True, at_end = True
    memset(high + from_, 0xff, size)
    if address is None or len(address) != size or len(mask) != size or not is_prefix(mask, size):
        return
    a, m = <const uint8_t*><const char*>address, <const uint8_t*><const char*>mask
    if not inverted:
        for i in range(size):
            low[from_ + i] = a[i]
            high[from_ + i] = a[i] | (~m[i] & 0xff)
        return
    for i in range(size):
        at_start = at_start and a[i] == 0
        at_end = at_end and (a[i] | (~m[i] & 0xff)) == 0xff
    if at_start == at_end:              # it leaves both ends, or nothing at all
        return
    if at_start:                        # from behind its last address on
        for i in range(size):
            low[from_ + i] = a[i] | (~m[i] & 0xff)
        step(low + from_, size, 1)
    else:                               # up to in front of its first
        memcpy(high + from_, a, size)
        step(high + from_, size, -1)


cdef void step(uint8_t* number, uint32_t size, int by) noexcept nogil:
    """Add 1 or -1 to a big-endian number."""
    cdef uint32_t i = size
    while i > 0:
        i -= 1
        number[i] = <uint8_t>(number[i] + by)
        if number[i] != (0 if by > 0 else 0xff):
            return


cdef bint is_prefix(bytes mask, uint32_t size) noexcept:
    """Ones, then zeros."""
    cdef const uint8_t* m = <const uint8_t*><const char*>mask
    cdef uint32_t i = 0
    cdef uint8_t hosts
    while i < size and m[i] == 0xff:
        i += 1
    if i < size:
        hosts = ~m[i] & 0xff
        if hosts & (hosts + 1):
            return False
        i += 1
    while i < size:
        if m[i]:
            return False
        i += 1
    return True


cdef void narrow(Box* box, const Condition* c, Rule rule, bint wide) noexcept:
    """Take a match's condition on a field, where it says more than the rule's own part.

    A prefix or a protocol of the rule's own counts; one with `!` says less than any match.
    """
    cdef uint32_t from_ = 0 if wide else 12
    if c.field == SADDR:
        if rule.source is None or rule.inverted & INV_SRC:
            memcpy(box.src_low + from_, c.low + from_, 16 - from_)
            memcpy(box.src_high + from_, c.high + from_, 16 - from_)
    elif c.field == DADDR:
        if rule.destination is None or rule.inverted & INV_DST:
            memcpy(box.dst_low + from_, c.low + from_, 16 - from_)
            memcpy(box.dst_high + from_, c.high + from_, 16 - from_)
    elif c.field == SPORT:
        box.sport_low, box.sport_high = port(c.low), port(c.high)
    elif c.field == DPORT:
        box.dport_low, box.dport_high = port(c.low), port(c.high)
    elif c.field == CTSTATE:
        box.classes &= c.mask | IS_SYN | NO_SYN
    elif c.field == TCP_FLAGS:
        box.classes &= c.mask | ANY_CLASS
    elif rule.protocol == 0 or rule.inverted & INV_PROTO:
        box.proto_low, box.proto_high = c.low[15], c.high[15]


cdef inline uint16_t port(const uint8_t* number) noexcept:
    return <uint16_t>(number[14] << 8 | number[15])
