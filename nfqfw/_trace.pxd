"""Trace records: what the walk of one packet did, as fixed small structs in a ring.  Header-only.

The walk writes them only for packets whose `trace` is set; `report/trace.py` turns them into text with the Program's map
of rule numbers to rules.  A PACKET record opens a walk (it carries the packet's first bytes), END closes it.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef enum RecordKind:           # first byte of every record in an engine's ring
    RECORD_TRACE = 1            # TraceRecord
    RECORD_PACKET = 2           # PacketRecord and then `captured` bytes of the packet
    RECORD_LOG = 3              # LogRecord and then `captured` bytes of the packet
    RECORD_REDIRECTED = 4       # Redirected of _outbox.pxd


cdef enum TraceKind:            # TraceRecord.event
    TRACE_STEP = 1              # a table is entered: table, chain
    TRACE_MISS = 2              # rule did not match: test = number of the test that failed, NO_TEST = hotdrop
    TRACE_MATCH = 3             # every test of the rule held
    TRACE_JUMP = 4              # value = chain
    TRACE_GOTO = 5              # value = chain
    TRACE_RETURN = 6            # back to `chain`, by a RETURN rule or the end of a chain
    TRACE_POLICY = 7            # value = policy verdict of `chain`
    TRACE_VERDICT = 8           # value = verdict of the table
    TRACE_CONNTRACK = 9         # value = CtInfo, rule = connection, test = status
    TRACE_CONFIRM = 10          # value = Reason
    TRACE_MARK = 11             # value = new mark
    TRACE_REWRITE = 12          # value = Dirty
    TRACE_NAT = 13              # connection got a mapping: rule = connection, value = 0 source, 1 destination
    TRACE_END = 14              # value = final verdict, rule = Reason
    TRACE_DEFRAG = 15           # value: 0 held, 1 complete, else Reason
    TRACE_REJECT = 16           # value: 0 a reply was queued, else why not (RejectOutcome)


cdef enum:
    NO_TEST = 0xffffffff
    NOT_TRACKED = 0xffffffff


cdef struct TraceRecord:        # 40 bytes; report/ unpacks "<BBBB7IQ"
    uint8_t kind                # RECORD_TRACE
    uint8_t event               # TraceKind
    uint8_t hook                # hook whose step runs
    uint8_t table               # Table
    uint32_t serial             # which packet
    uint32_t chain
    uint32_t rule               # rule row
    uint32_t test               # test row
    uint32_t value
    uint32_t value2
    uint32_t ctinfo             # CtInfo, or NOT_TRACKED before connection tracking
    uint64_t generation         # Program generation the numbers belong to


cdef struct PacketRecord:       # 88 bytes; report/ unpacks "<BBBBIQqQ10IBBH8s4x"
    uint8_t kind                # RECORD_PACKET or RECORD_LOG
    uint8_t family
    uint8_t hook                # hook whose chains are walked
    uint8_t table
    uint32_t serial
    uint64_t now                # CLOCK_MONOTONIC ns
    int64_t wall                # CLOCK_REALTIME ns
    uint64_t generation
    uint32_t ifin
    uint32_t ifout
    uint32_t physin
    uint32_t physout
    uint32_t mark
    uint32_t total              # length of the packet
    uint32_t captured           # bytes of it behind this struct
    uint32_t rule               # LOG: rule row
    uint32_t uid
    uint32_t gid
    uint8_t known               # Known
    uint8_t hwlen
    uint16_t log_info           # spare
    uint8_t hwaddr[8]           # padded to 88 bytes in all
