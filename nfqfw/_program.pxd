"""Program: a compiled ruleset, immutable, without pointers; and the Context in which it runs.  Header-only.

Overview.  compile.py lays the sections out behind one another; every reference is an index or an offset, so a Program can
be mapped by another process.  Both families and all tables are in one Program: a packet is judged by exactly one.

    header | chains | rules | tests | data                        read-only
    counters (per thread, per rule: packets, bytes), rule state   beside it, writable, one memory per generation

An edit of a few rules of a large ruleset (delta.py) makes a Program that shares rules, tests and data with the one before: new
rows go into room that was left behind those in use, and a header, chain rows and runs of its own say which rows belong to it.

A rule is a run of tests in the kernel's order (addresses, interfaces, protocol, fragment, then matches from left to
right) and a target.  A test is an opcode and its info struct in `data`.  The index will pick candidates by the field sets
that compile.py also knows; whatever it picks, the tests here decide.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from nfqfw._conn cimport ConnTable
from nfqfw._host cimport HostHeader, Interface
from nfqfw._named cimport NamedTable
from nfqfw._paths cimport Tape
from nfqfw._ring cimport Ring


cdef enum:
    PROGRAM_MAGIC = 0x6e665150  # 'nfQP'
    PROGRAM_VERSION = 1
    TABLES = 5
    NO_CHAIN = 0xffffffff


cdef enum Table:                # order of evaluation where a hook has several
    RAW = 0
    MANGLE = 1
    NAT = 2
    FILTER = 3
    SECURITY = 4


cdef enum Feature:              # ProgramHeader.features[family]
    NEEDS_CONNTRACK = 1         # something reads or changes connections: track (and defragment) as the kernel would
    NEEDS_DEFRAG = 2            # reassembly without tracking
    NEEDS_NAT = 4
    REWRITES = 8                # some target edits packets: the whole packet must be copied
    READS_PAYLOAD = 16          # string, bpf, u32, ...: the whole packet must be copied
    REROUTES_OUTPUT = 32        # OUTPUT rules may change addresses, mark or TOS: POSTROUTING cannot be fused
    NEEDS_ACCT = 64


cdef enum RuleTarget:           # Rule.target below TARGET_EXT; from there on it is TARGET_EXT + opcode of an action
    TARGET_NONE = 0             # no -j: count and go on
    TARGET_ACCEPT = 1
    TARGET_DROP = 2
    TARGET_RETURN = 3
    TARGET_QUEUE = 4
    TARGET_JUMP = 5             # target_arg = chain
    TARGET_GOTO = 6             # target_arg = chain
    TARGET_EXT = 16             # target_arg = offset of the info struct in data


cdef struct Run:                # 12 bytes: rule rows of an edited chain that follow one another
    uint32_t first
    uint32_t n
    uint32_t indexed            # 1 = the chain's index knows them


cdef struct ChainRow:           # 40 bytes; compile.py packs it as "<10I"
    uint32_t first_rule
    uint32_t n_rules
    uint32_t policy             # built-in: Verdict; user chain: 0
    uint32_t policy_counter     # counter of the underflow rule; user chain: NO_CHAIN
    uint32_t table              # Table
    uint32_t family             # Family
    uint32_t hook               # Hook, or NO_CHAIN for a user chain
    uint32_t index              # offset of the chain's index in data, 0 = walk it rule by rule
    uint32_t runs               # an edited chain: offset from the header of its Runs, in order; they count instead of
    uint32_t n_runs             # first_rule and n_rules.  0 = never edited


cdef struct RuleRow:            # 20 bytes; compile.py packs it as "<IHHIII"
    uint32_t first_test
    uint16_t n_tests
    uint16_t target             # RuleTarget
    uint32_t target_arg
    uint32_t counter
    uint32_t flags              # Reads of its target (_paths.pxd)


cdef struct TestRow:            # 16 bytes; compile.py packs it as "<HHIII"
    uint16_t op                 # enum Op of _ops.pxd
    uint16_t flags              # Reads (_paths.pxd)
    uint32_t info               # offset of the info struct in data (8-byte aligned)
    uint32_t state              # offset of its state in the rule-state memory, 0xffffffff = none
    uint32_t match              # which match of the rule's text it came from, for trace: index, 0 = the rule's own part


cdef struct ProgramHeader:      # compile.py packs it as "<IIQ14I50I2I"; 280 bytes
    uint32_t magic
    uint32_t version
    uint64_t generation         # grows by one with every load of a daemon
    uint32_t size               # bytes of the whole block
    uint32_t chains             # offset from here; the other sections: from the start of the block, which an edit shares
    uint32_t n_chains
    uint32_t rules
    uint32_t n_rules
    uint32_t tests
    uint32_t n_tests
    uint32_t data
    uint32_t data_size
    uint32_t n_counters         # rules and policies of both families
    uint32_t state_size         # bytes of rule state
    uint32_t stack_depth        # number of user chains of the largest table: the kernel's bound, and ours
    uint32_t state_init         # offset in data of the image that rule state starts as
    uint32_t large              # rules from which a built-in chain's index is asked ahead for a batch; 0 = no chain is so long
    uint32_t base[2][5][5]      # [family 4,6][Table][Hook]: chain number of the built-in chain, NO_CHAIN = none
    uint32_t features[2]        # Feature


cdef struct Counter:            # 16 bytes
    uint64_t packets
    uint64_t bytes


cdef struct Context:            # what a test or an action may see and touch besides the packet; one per queue thread
    const ProgramHeader* program
    const RuleRow* rules        # the Program's sections
    const TestRow* tests
    const uint8_t* data
    uint8_t* state              # rule state of this Program
    Counter* counters           # this thread's counters of this Program
    ConnTable* conns
    const HostHeader* host
    const Interface* iif        # interfaces of the packet at hand, NULL = none
    const Interface* oif
    uint64_t now                # CLOCK_MONOTONIC, ns, one reading per batch
    int64_t wall                # CLOCK_REALTIME, ns, the same moment
    uint64_t random             # state of this thread's generator (never 0)
    uint32_t table              # Table being walked
    uint32_t rule               # rule being evaluated: index into rules
    uint8_t hotdrop             # a test sets it: drop at once, nothing more counts
    uint8_t hook                # hook whose chains are walked: with fused hooks not the packet's crossing
    uint8_t untracked           # target NOTRACK / CT ran
    uint8_t pad
    uint32_t effect             # offset in data of the info of a REJECT or NAT action that the engine has to carry out
    uint32_t effect_op          # its Action
    uint32_t* stack             # jump stack: (chain, next rule) pairs, program.stack_depth of them
    Ring* ring                  # log and trace records
    NamedTable** named          # tables of recent, hashlimit, connlimit, as the Program numbers them
    const void* ahead           # Ahead (_fastpath.pxd) of the packet at hand, NULL = none
    Tape* tape                  # records what the packet meets, NULL = nobody asked


cdef inline uint32_t family_index(uint8_t family) noexcept nogil:
    return 0 if family == 2 else 1


cdef inline const ChainRow* chain_rows(const ProgramHeader* p) noexcept nogil:
    return <const ChainRow*>(<const uint8_t*>p + p.chains)


cdef inline const Run* chain_runs(const ProgramHeader* p, const ChainRow* chain) noexcept nogil:
    return <const Run*>(<const uint8_t*>p + chain.runs)


cdef inline uint32_t random32(Context* c) noexcept nogil:
    """xorshift64*: not for secrets."""
    c.random ^= c.random >> 12
    c.random ^= c.random << 25
    c.random ^= c.random >> 27
    return <uint32_t>((c.random * <uint64_t>2685821657736338717) >> 32)
