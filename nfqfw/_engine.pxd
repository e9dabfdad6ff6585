"""The engine's Python door, for modules that cimport it.  See _engine.pyx."""

from libc.stdint cimport uint8_t, uint32_t

from nfqfw._inflight cimport InFlightTable
from nfqfw._named cimport NamedTable
from nfqfw._outbox cimport EngineDoor
from nfqfw._pipeline cimport EngineState, ProgramView
from nfqfw._program cimport Counter
from nfqfw._reject cimport IcmpLimit


cdef class LoadedProgram:
    cdef readonly object program            # compile.Program
    cdef bytearray block
    cdef bytes head
    cdef uint8_t* state
    cdef Counter* counters
    cdef uint32_t room                      # counters of a thread
    cdef LoadedProgram counting             # whose counters go on here; None = they are this one's own
    cdef ProgramView* views
    cdef list tables                        # NamedHandle by number
    cdef NamedTable** named
    cdef readonly int threads
    cdef ProgramView* view(self, int thread)


cdef class Shared:
    cdef InFlightTable* inflight
    cdef IcmpLimit* icmp


cdef class Engine:
    cdef Shared shared
    cdef EngineState* state
    cdef EngineDoor gate
    cdef object table                       # ConntrackTable, kept alive
    cdef object loaded                      # LoadedProgram in use
    cdef object older                       # the one before, until a boundary has been passed
    cdef list released                      # held packets decided in calls of `one` and `idle`, copied
    cdef list hosts                         # Host blocks handed over: the newest, and those a batch may still read
    cdef readonly int thread

    cdef collect(self)
