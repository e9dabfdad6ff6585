"""The matcher's C door: see _fastpath.pyx."""

from libc.stdint cimport uint32_t

from nfqfw._classify cimport Cursors, IndexHeader
from nfqfw._packet cimport Packet
from nfqfw._program cimport Context


cdef enum Outcome:              # what run_chain returns: a Verdict, or
    OUTCOME_REJECT = 16         # DROP, and the engine sends the reply that Context.effect names
    OUTCOME_NAT = 17            # the engine makes the mapping that Context.effect names, then the table's verdict is ACCEPT
    OUTCOME_HOTDROP = 18
    OUTCOME_STACK = 19          # jump stack overflow: DROP


cdef enum:
    AHEAD_MAX = 64              # limits.BATCH_PACKETS: packets of a batch that are looked up ahead


cdef struct Ahead:              # what the index of a large chain has for a packet, found before the packet's turn
    bint wanted                 # its packet may walk: look
    const IndexHeader* index    # NULL = it was not asked
    const Packet* packet        # for which, as long as its bytes are not changed
    Cursors cursors             # without the class of the connection


cdef void look_ahead(Context* c, const Packet* packets, uint32_t n, Ahead* ahead) noexcept nogil
cdef uint32_t run_chain(Context* c, Packet* p, uint32_t chain) noexcept nogil
