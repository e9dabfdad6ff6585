"""Is a block of bytes a Program?  Asked once when it is loaded: the matcher trusts every count, offset and number in it.  Header-only.

What lies in the info structs is the extensions' own affair; only that they begin inside the data section is looked at.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from nfqfw._ops cimport ACTION_COUNT, OP_COUNT
from nfqfw._program cimport (NO_CHAIN, PROGRAM_MAGIC, PROGRAM_VERSION, TARGET_EXT, TARGET_GOTO, TARGET_JUMP, TARGET_QUEUE, ChainRow, ProgramHeader,
                             RuleRow, Run, TestRow, chain_rows, chain_runs)


cdef inline bint section_fits(uint64_t size, uint64_t at, uint64_t n, uint64_t element) noexcept nogil:
    return at >= sizeof(ProgramHeader) and at <= size and n * element <= size - at


cdef inline bint chain_fits(const ProgramHeader* p, const ChainRow* chain, uint64_t size, uint64_t counters) noexcept nogil:
    """size: of the header with its chain rows and runs."""
    cdef const Run* runs
    cdef uint32_t i
    if <uint64_t>chain.first_rule + chain.n_rules > p.n_rules or (chain.index and chain.index >= p.data_size):
        return False
    if chain.policy_counter != NO_CHAIN and chain.policy_counter >= counters:
        return False
    if chain.n_runs == 0:
        return True
    if chain.runs % 4 or not section_fits(size, chain.runs, chain.n_runs, sizeof(Run)):
        return False
    runs = chain_runs(p, chain)
    for i in range(chain.n_runs):
        if <uint64_t>runs[i].first + runs[i].n > p.n_rules:
            return False
    return True


cdef inline bint rule_fits(const ProgramHeader* p, const RuleRow* rule, uint64_t counters) noexcept nogil:
    if <uint64_t>rule.first_test + rule.n_tests > p.n_tests or rule.counter >= counters:
        return False
    if rule.target == TARGET_JUMP or rule.target == TARGET_GOTO:
        return rule.target_arg < p.n_chains
    if rule.target >= TARGET_EXT:
        return rule.target < TARGET_EXT + ACTION_COUNT and rule.target_arg < p.data_size
    return rule.target <= TARGET_QUEUE


cdef inline bint test_fits(const ProgramHeader* p, const TestRow* test) noexcept nogil:
    if test.op >= OP_COUNT or test.info >= p.data_size:
        return False
    return test.state == <uint32_t>0xffffffffU or (test.state < p.state_size and test.state % 8 == 0)


cdef inline const char* rows_fault(const ProgramHeader* p, const uint8_t* block, uint64_t counters) noexcept nogil:
    cdef const RuleRow* rules = <const RuleRow*>(block + p.rules)
    cdef const TestRow* tests = <const TestRow*>(block + p.tests)
    cdef uint32_t i
    for i in range(p.n_rules):
        if not rule_fits(p, &rules[i], counters):
            return "a rule names what is not there"
    for i in range(p.n_tests):
        if not test_fits(p, &tests[i]):
            return "a test names what is not there"
    return NULL


cdef inline const char* program_fault(const ProgramHeader* p, uint64_t head_size, const uint8_t* block, uint64_t size, uint64_t state_size,
                                      uint64_t counters, bint fresh) noexcept nogil:
    """What makes these bytes no Program, NULL = they are one.

    head_size: bytes at p, which are the block itself or an edit's own; size: of the block; state_size: of the image that the rule
    state starts as; counters: that there is room for.  fresh: look at every row; those of a shared block have been looked at.
    """
    cdef uint32_t i
    cdef const uint32_t* base
    if head_size < sizeof(ProgramHeader):
        return "it is shorter than its header"
    if p.magic != PROGRAM_MAGIC or p.version != PROGRAM_VERSION:
        return "it is none of this version"
    if p.size != head_size or p.state_size != state_size or p.n_counters > counters:
        return "its length, its rule state or its counters are not what it tells"
    if not (section_fits(head_size, p.chains, p.n_chains, sizeof(ChainRow)) and section_fits(size, p.rules, p.n_rules, sizeof(RuleRow))
            and section_fits(size, p.tests, p.n_tests, sizeof(TestRow)) and section_fits(size, p.data, p.data_size, 1)):
        return "a section lies outside"
    base = &p.base[0][0][0]
    for i in range(50):
        if base[i] != NO_CHAIN and base[i] >= p.n_chains:
            return "a built-in chain is none of its chains"
    for i in range(p.n_chains):
        if not chain_fits(p, &chain_rows(p)[i], head_size, counters):
            return "a chain lies outside"
    return rows_fault(p, block, counters) if fresh else NULL
