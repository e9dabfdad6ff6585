"""The matcher's C door: see _fastpath.pyx."""

from libc.stdint cimport uint32_t

from nfqfw._packet cimport Packet
from nfqfw._program cimport Context


cdef enum Outcome:              # what run_chain returns: a Verdict, or
    OUTCOME_REJECT = 16         # DROP, and the engine sends the reply that Context.effect names
    OUTCOME_NAT = 17            # the engine makes the mapping that Context.effect names, then the table's verdict is ACCEPT
    OUTCOME_HOTDROP = 18
    OUTCOME_STACK = 19          # jump stack overflow: DROP


cdef uint32_t run_chain(Context* c, Packet* p, uint32_t chain) noexcept nogil
