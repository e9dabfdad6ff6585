"""What the index of a chain may know of each rule: declarations; see indexing.pyx."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from nfqfw._classify cimport Box
from nfqfw.rules._rule cimport Rule


cdef struct Condition:          # on one field: its value lies in one of the ranges
    uint8_t field               # Field
    uint8_t mask                # of CTSTATE and TCP_FLAGS: bits of Box.classes
    uint16_t n                  # exact port ranges in `pairs`; 0 = the hull says it all
    uint32_t pair               # first of them
    double size                 # how many values it leaves; of two conditions on one field the smaller says more
    uint8_t low[16]             # hull, big-endian
    uint8_t high[16]


cdef class Fields:
    cdef Condition* conditions
    cdef uint32_t n
    cdef uint16_t* pairs        # low, high of each exact port range
    cdef uint32_t n_pairs
    cdef bint opaque            # a test among them may act: tests of later matches say nothing

    cdef int take(self, int field, tuple ranges) except -1


cdef class Boxes:
    cdef readonly bint wide
    cdef Box* boxes
    cdef uint32_t n
    cdef uint32_t room
    cdef uint16_t* ranges       # low, high
    cdef uint32_t n_ranges
    cdef uint32_t ranges_room
    cdef const Condition* best[7]
    cdef const uint16_t* best_pairs[7]

    cdef int add(self, Rule rule, list fields) except -1
    cdef int exact(self, int field, uint32_t* first, uint32_t* number) except -1
