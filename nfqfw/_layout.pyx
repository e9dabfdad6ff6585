"""Rules -> rows of a Program: the part of the compiler that touches every rule.

Overview.  `Layout` is given the rules of one chain after the other and writes their RuleRows and TestRows (_program.pxd), the
info structs that these name, and the images of rule state.  The rule's own part (addresses, interfaces, protocol, fragment) is
written from the Rule as it is; a match or an extension target is lowered by its extension (Python) and kept as a `Lowered` on
the Use: rules that share a match share it, and an edit of one rule of a large table lowers one rule.

Equal infos have one place in the data section: a small hash table, of this compilation only, finds them.
"""

cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from nfqfw._program cimport RuleRow, TestRow
from nfqfw.indexing cimport Boxes, Fields
from nfqfw.rules._rule cimport INV_DST, INV_FRAG, INV_IN, INV_OUT, INV_PROTO, INV_SRC, Rule

import struct

from nfqfw import ops
from nfqfw.errors import RuleError
from nfqfw.ext.lowering import Action, Unevaluated, interface_info
from nfqfw.rules.model import Jump, Standard

NONE = 0xFFFFFFFF
STANDARD = {"ACCEPT": 1, "DROP": 2, "RETURN": 3, "QUEUE": 4}
OPCODES = {name: number for number, name in enumerate(ops.TESTS)}
ACTION_CODES = {name: number for number, name in enumerate(ops.ACTIONS)}
FEATURES = {"conntrack": 1, "defrag": 2, "nat": 4, "rewrites": 8, "payload": 16, "reroutes": 32, "acct": 64}     # enum Feature, bit by bit

cdef enum:
    JUMP = 5
    GOTO = 6
    EXTENSION = 16
    READS_FLOW = 0              # ext/lowering.py

cdef:
    uint16_t SRC4 = OPCODES["src4"]
    uint16_t DST4 = OPCODES["dst4"]
    uint16_t SRC6 = OPCODES["src6"]
    uint16_t DST6 = OPCODES["dst6"]
    uint16_t IN = OPCODES["in"]
    uint16_t OUT = OPCODES["out"]
    uint16_t PROTO = OPCODES["proto"]
    uint16_t FRAGMENT = OPCODES["fragment"]
    list NO_FIELDS = []


cdef struct Buffer:             # grows
    uint8_t* at
    size_t used
    size_t room


cdef struct Interned:           # place of an info in the data section; size 0 = free
    uint64_t hash
    uint32_t offset
    uint32_t size


cdef struct LoweredTest:
    uint16_t op
    uint16_t flags              # Reads
    uint32_t size               # of info
    uint32_t info               # offset in Lowered.infos


# ---- what an extension makes of a match or a target --------------------------------------------------------------------

@cython.final
@cython.no_gc                   # in no cycle
cdef class Lowered:
    """A match or an extension target, lowered for rules of one protocol."""

    cdef int protocol           # of the rule it was lowered for
    cdef int inverted           # INV_PROTO of that rule
    cdef LoweredTest* rows
    cdef bytes infos            # of all tests behind one another, or of an action
    cdef list tests             # of lowering.Test, if one has a state or a named table; else None
    cdef uint32_t n
    cdef readonly Fields fields
    cdef uint32_t features      # enum Feature
    cdef readonly tuple reasons # why this build cannot evaluate it
    cdef uint16_t code          # of an action: RuleTarget
    cdef uint16_t reads         # of an action: Reads
    cdef bytes state            # of an action: first image of its state, b"" = none

    def __cinit__(self, use, Rule rule, bint is_target):
        self.protocol = rule.protocol
        self.inverted = rule.inverted & INV_PROTO
        self.reasons, self.infos, self.state = (), b"", b""
        lowered = use.ext.lower(use, rule)
        if isinstance(lowered, Unevaluated):
            self.reasons = (lowered.reason,)
        elif is_target:
            self.take_action(lowered)
        else:
            self.take_tests(lowered)

    cdef take_action(self, action):
        if action.op not in ACTION_CODES:
            self.reasons = (f"not evaluated yet: {action.op}",)
            return
        self.code = EXTENSION + <uint16_t>ACTION_CODES[action.op]
        self.infos, self.reads, self.state = action.info, action.reads, action.state
        self.features = feature_bits(action.features)

    cdef take_tests(self, list tests):
        cdef LoweredTest* row
        cdef uint32_t at = 0
        for test in tests:
            if test.op not in OPCODES:          # lowered, but the matcher of this build has no such opcode
                self.reasons += (f"not evaluated yet: {test.op}",)
        if self.reasons:
            return
        self.fields = Fields(tests)
        self.rows = <LoweredTest*>malloc(max(1, len(tests)) * sizeof(LoweredTest))
        if self.rows == NULL:
            raise MemoryError
        for test in tests:
            row = &self.rows[self.n]
            row.op, row.flags, row.info, row.size = OPCODES[test.op], test.reads, at, len(test.info)
            at += row.size
            if test.features:
                self.features |= feature_bits(test.features)
            if test.state or test.named is not None:
                self.tests = tests
            self.n += 1
        self.infos = b"".join([test.info for test in tests]) if self.n > 1 else tests[0].info if self.n else b""

    def __dealloc__(self):
        free(self.rows)


cdef uint32_t feature_bits(features) except? 0xffffffff:
    cdef uint32_t bits = 0
    for name in features:
        bits |= <uint32_t>FEATURES[name]
    return bits


cdef Lowered lowered_of(use, Rule rule, bint is_target):
    cdef object kept = use.lowered
    cdef Lowered found
    if kept is not None:
        found = kept
        if found.protocol == rule.protocol and found.inverted == (rule.inverted & INV_PROTO):
            return found
    found = Lowered(use, rule, is_target)
    if use.ext.lasting:
        use.lowered = found
    return found


# ---- memory --------------------------------------------------------------------------------------------------------------

cdef int reserve(Buffer* buffer, size_t more) except -1:
    cdef size_t room
    cdef uint8_t* at
    if buffer.used + more <= buffer.room:
        return 0
    room = 2 * buffer.room + more + 4096
    at = <uint8_t*>realloc(buffer.at, room)
    if at == NULL:
        raise MemoryError
    buffer.at, buffer.room = at, room
    return 0


cdef bytes content(const Buffer* buffer):
    return (<const char*>buffer.at)[:buffer.used] if buffer.used else b""


cdef inline uint64_t hash_of(const uint8_t* info, uint32_t size) noexcept nogil:
    """Not keyed: rules come from whoever may change the firewall."""
    cdef uint64_t h = size * <uint64_t>0x9E3779B97F4A7C15, word
    cdef uint32_t i = 0
    while i + 8 <= size:
        memcpy(&word, info + i, 8)
        h = (h ^ word) * <uint64_t>0xff51afd7ed558ccd
        h ^= h >> 32
        i += 8
    if i < size:
        word = 0
        memcpy(&word, info + i, size - i)
        h = (h ^ word) * <uint64_t>0xff51afd7ed558ccd
        h ^= h >> 32
    return h


# ---- the layout ----------------------------------------------------------------------------------------------------------

cdef class Layout:
    """Rows, tests, data and rule state of one Program under construction; one use each.

    rules, tests, data, state: how much a Program has already that these are to be put behind; policies: its other counters.
    """

    cdef Buffer data            # offset 0 stays unused: it can mean "none"
    cdef Buffer tests
    cdef Buffer rows
    cdef Interned* table
    cdef size_t table_room      # a power of two
    cdef size_t table_used
    cdef dict interfaces        # (name, inverted) -> bytes
    cdef readonly object state  # bytearray
    cdef readonly list states   # (rule row, offset, bytes) of every state
    cdef readonly list errors
    cdef uint32_t needs[7]      # rules of the chain at hand that need each of FEATURES
    cdef uint32_t data_before
    cdef uint32_t state_before
    cdef uint32_t policies
    cdef readonly uint32_t n_rules
    cdef readonly uint32_t n_tests

    def __cinit__(self, uint32_t rules=0, uint32_t tests=0, uint32_t data=0, uint32_t state=0, uint32_t policies=0):
        self.n_rules, self.n_tests, self.data_before, self.state_before, self.policies = rules, tests, data, state, policies
        self.table_room = 4096
        self.table = <Interned*>calloc(self.table_room, sizeof(Interned))
        if self.table == NULL:
            raise MemoryError
        reserve(&self.data, 8)
        memset(self.data.at, 0, 8)
        self.data.used = 8
        self.interfaces = {}
        self.state = bytearray()
        self.states = []
        self.errors = []

    def __dealloc__(self):
        free(self.data.at)
        free(self.tests.at)
        free(self.rows.at)
        free(self.table)

    def sections(self) -> tuple:
        """(RuleRows, TestRows, data)."""
        return content(&self.rows), content(&self.tests), content(&self.data)

    def append(self, bytes block) -> int:
        """Offset of a block of its own in data, 8-byte aligned."""
        return self.put(<const uint8_t*><const char*>block, len(block))

    def add_rules(self, list rules, str table, dict numbers, Boxes boxes, number_named) -> dict:
        """The rules of one chain; returns how many of them need each feature.

        numbers: chain number of every chain of the table.  boxes: None = the chain gets no index.  number_named(Named, rule
        row): place of a named table.
        """
        cdef Rule rule
        memset(self.needs, 0, sizeof(self.needs))
        for rule in rules:
            if rule is None:
                raise TypeError("None among the rules")
            self.add_rule(rule, table, numbers, boxes, number_named)
        return {name: self.needs[i] for i, name in enumerate(FEATURES) if self.needs[i]}

    cdef int add_rule(self, Rule rule, str table, dict numbers, Boxes boxes, number_named) except -1:
        cdef RuleRow* row
        cdef Lowered part
        cdef uint32_t first = self.n_tests, number = 0, argument = 0
        cdef uint16_t code = 0
        cdef uint32_t reads = 0, features = 0, i = 0
        cdef bytes infos
        cdef list fields = NO_FIELDS if boxes is None or not rule.matches else []
        cdef object target = rule.target
        self.own_part(rule)
        for use in rule.matches:
            number += 1
            part = lowered_of(use, rule, False)
            if part.reasons:
                self.refuse(part.reasons, rule)
                continue
            features |= part.features
            if boxes is not None:
                fields.append(part.fields)
            self.put_tests(part, number, rule, table, number_named)
        if target is None:
            pass
        elif type(target) is Standard:
            code = STANDARD[target.name]
        elif type(target) is Jump:
            code = GOTO if target.goto else JUMP
            argument = numbers[target.chain]
        else:
            part = lowered_of(target, rule, True)
            if part.reasons:
                self.refuse(part.reasons, rule)
            else:
                infos = part.infos
                if part.state:
                    infos = struct.pack("<I", self.keep(part.state)) + infos[4:]
                code, argument = part.code, self.intern(<const uint8_t*><const char*>infos, len(infos))
                features |= part.features
                reads = part.reads
        while features:
            self.needs[i] += features & 1
            features >>= 1
            i += 1
        if boxes is not None and not self.errors:
            boxes.add(rule, fields)
        reserve(&self.rows, sizeof(RuleRow))
        row = <RuleRow*>(self.rows.at + self.rows.used)
        self.rows.used += sizeof(RuleRow)
        row.first_test, row.n_tests, row.target, row.target_arg = first, self.n_tests - first, code, argument
        row.counter, row.flags = self.n_rules + self.policies, reads
        self.n_rules += 1
        return 0

    cdef refuse(self, tuple reasons, Rule rule):
        self.errors.extend([RuleError(reason, rule.span) for reason in reasons])

    # ---- tests -----------------------------------------------------------------------------------------------------------

    cdef int own_part(self, Rule rule) except -1:
        """In the kernel's order; what is not asked is left out."""
        cdef int inverted = rule.inverted
        cdef uint8_t info[4]
        if rule.source is not None:
            self.address(SRC4 if len(rule.source) == 4 else SRC6, rule.source, rule.source_mask, inverted & INV_SRC)
        if rule.destination is not None:
            self.address(DST4 if len(rule.destination) == 4 else DST6, rule.destination, rule.destination_mask, inverted & INV_DST)
        if rule.in_interface:
            self.interface(IN, rule.in_interface, inverted & INV_IN)
        if rule.out_interface:
            self.interface(OUT, rule.out_interface, inverted & INV_OUT)
        memset(info, 0, 4)
        if rule.protocol:
            info[0], info[1] = rule.protocol, (inverted & INV_PROTO) != 0
            self.put_test(PROTO, READS_FLOW, self.intern(info, 4), NONE, 0)
        if rule.fragment:
            info[0], info[1] = (inverted & INV_FRAG) != 0, 0
            self.put_test(FRAGMENT, READS_FLOW, self.intern(info, 4), NONE, 0)
        return 0

    cdef int address(self, uint16_t op, bytes address, bytes mask, bint inverted) except -1:
        cdef uint8_t info[36]
        cdef uint32_t size = len(address), flag = inverted != 0
        if mask is None or len(mask) != size or size not in (4, 16):
            raise ValueError("an address has 4 or 16 bytes, and its mask as many")
        memcpy(info, <const char*>address, size)
        memcpy(info + size, <const char*>mask, size)
        memcpy(info + 2 * size, &flag, 4)
        return self.put_test(op, READS_FLOW, self.intern(info, 2 * size + 4), NONE, 0)

    cdef int interface(self, uint16_t op, str name, bint inverted) except -1:
        cdef bytes info = self.interfaces.get((name, inverted))
        if info is None:
            info = self.interfaces[name, inverted] = interface_info(name, inverted)
        return self.put_test(op, READS_FLOW, self.intern(<const uint8_t*><const char*>info, len(info)), NONE, 0)

    cdef int put_tests(self, Lowered part, uint32_t number, Rule rule, str table, number_named) except -1:
        cdef uint32_t i, state
        cdef const LoweredTest* row
        cdef const uint8_t* infos = <const uint8_t*><const char*>part.infos
        for i in range(part.n):
            row = &part.rows[i]
            if part.tests is None:
                self.put_test(row.op, row.flags, self.intern(infos + row.info, row.size), NONE, number)
                continue
            _, info, _, _, image, _, named = part.tests[i]
            if named is not None:
                if table in named.refused_in:
                    self.refuse((f"not evaluated yet: match {named.kind} in table {table}",), rule)
                info = struct.pack("<I", number_named(named, self.n_rules)) + info[4:]
            state = self.keep(image) if image else NONE
            self.put_test(row.op, row.flags, self.intern(<const uint8_t*><const char*>(<bytes>info), len(info)), state, number)
        return 0

    cdef int put_test(self, uint16_t op, uint16_t flags, uint32_t info, uint32_t state, uint32_t number) except -1:
        cdef TestRow* row
        reserve(&self.tests, sizeof(TestRow))
        row = <TestRow*>(self.tests.at + self.tests.used)
        self.tests.used += sizeof(TestRow)
        row.op, row.flags, row.info, row.state, row.match = op, flags, info, state, number
        self.n_tests += 1
        return 0

    cdef uint32_t keep(self, bytes image) except? 0xffffffff:
        """Offset of the state of a test or an action in the rule-state memory, 8-byte aligned."""
        offset = self.state_before + len(self.state)
        self.states.append((self.n_rules, offset, len(image)))
        self.state += image + b"\0" * ((8 - len(image) % 8) % 8)       # C's remainder of a negative number is negative
        return offset

    # ---- data ------------------------------------------------------------------------------------------------------------

    cdef uint32_t put(self, const uint8_t* block, size_t size) except? 0xffffffff:
        """Offset of a copy in data, 8-byte aligned and filled up with zeros."""
        cdef size_t padded = (size + 7) & ~<size_t>7, at = self.data.used
        if self.data_before + at + padded > NONE:
            raise MemoryError("a ruleset of more than 4 GiB")
        reserve(&self.data, padded)
        memcpy(self.data.at + at, block, size)
        memset(self.data.at + at + size, 0, padded - size)
        self.data.used += padded
        return self.data_before + at

    cdef uint32_t intern(self, const uint8_t* info, uint32_t size) except? 0xffffffff:
        """Offset of these bytes in data; equal infos share one place."""
        cdef uint64_t h
        cdef size_t i
        cdef Interned* slot
        if size == 0:
            return 0
        if 2 * self.table_used >= self.table_room:
            self.widen()
        h = hash_of(info, size)
        i = h & (self.table_room - 1)
        while True:
            slot = &self.table[i]
            if slot.size == 0:
                break
            if slot.hash == h and slot.size == size and memcmp(self.data.at + slot.offset - self.data_before, info, size) == 0:
                return slot.offset
            i = (i + 1) & (self.table_room - 1)
        slot.hash, slot.size = h, size
        slot.offset = self.put(info, size)
        self.table_used += 1
        return slot.offset

    cdef int widen(self) except -1:
        cdef size_t room = 4 * self.table_room, i, k
        cdef Interned* table = <Interned*>calloc(room, sizeof(Interned))
        if table == NULL:
            raise MemoryError
        for i in range(self.table_room):
            if self.table[i].size == 0:
                continue
            k = self.table[i].hash & (room - 1)
            while table[k].size:
                k = (k + 1) & (room - 1)
            table[k] = self.table[i]
        free(self.table)
        self.table, self.table_room = table, room
        return 0
