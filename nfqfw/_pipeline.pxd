"""The engine's C door: state of one queue thread, and the functions a transport calls.  See _pipeline.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from nfqfw._conntrack cimport Conntrack
from nfqfw._defrag cimport Defrag
from nfqfw._fastpath cimport Ahead
from nfqfw._inflight cimport InFlightTable
from nfqfw._named cimport NamedTable
from nfqfw._outbox cimport Outbox, Sender
from nfqfw._packet cimport Packet
from nfqfw._paths cimport PathKey, PathTable, Tape
from nfqfw._program cimport Context, Counter, ProgramHeader, RuleRow, TestRow
from nfqfw._reject cimport IcmpLimit
from nfqfw._ring cimport Ring


cdef struct ProgramView:        # a Program as one queue thread runs it; owned by LoadedProgram
    const ProgramHeader* program
    const RuleRow* rules
    const TestRow* tests
    const uint8_t* data
    uint8_t* state              # rule state, shared by the threads
    Counter* counters           # this thread's own
    uint32_t* stack
    NamedTable** named          # shared by the threads
    uint64_t serial             # never the same for two of a process


cdef struct Stats:
    uint64_t packets            # crossings judged
    uint64_t bytes
    uint64_t verdicts[5]        # by Verdict
    uint64_t drops[32]          # by Reason
    uint64_t rejects[9]         # by RejectOutcome
    uint64_t refused            # in-flight packets that the kernel dropped between two hooks
    uint64_t unknown            # crossings that should have had a record and had none


cdef enum:
    KEYED_MAX = 64              # limits.BATCH_PACKETS


cdef struct EngineState:        # one per queue thread
    Context c
    ProgramView* view           # what the thread runs now
    ProgramView* next           # what it takes up at the next batch; set by the control side
    const void* next_host       # Host block to take up at the next batch, NULL = none new
    uint64_t host_serial        # grows with every Host block handed over
    Conntrack* conntrack
    InFlightTable* inflight     # of all threads
    Outbox* outbox
    Sender sender               # how to have verdicts sent within a batch
    IcmpLimit* icmp             # of all threads
    Defrag* defrag
    Ring* ring
    PathTable* paths
    Tape tape                   # of the packet at hand, when c.tape names it
    PathKey tape_key
    uint32_t tape_conn
    uint8_t looked              # the crossing at hand has asked the flow cache
    uint32_t attached           # hooks that are queued to us, one bit each
    uint32_t next_attached
    uint32_t serial
    uint64_t keys[64][2]        # in-flight keys of the batch's first packets
    uint8_t keyed               # 0: nothing was in flight when the batch came
    Ahead ahead[64]             # of the batch's first packets
    uint32_t n_ahead            # how many of them were looked up; 0 = no chain is large
    uint32_t at                 # number of the packet in hand within its batch
    uint32_t releasable         # entries of the outbox that may be sent while it is in hand
    uint8_t thread              # its number among those that share `inflight`
    uint8_t trace_all
    Stats stats
    uint64_t expired_at         # CLOCK_MONOTONIC ns of the last look at entries for ended ones while idle


cdef void engine_batch(void* engine, Packet* packets, uint32_t n, uint64_t now_ns, int64_t wall_ns) noexcept nogil
cdef void engine_idle(void* engine, uint64_t now_ns) noexcept nogil
