"""EntryTable: the entries of a flow table, listed and changed.  See `_entries.pyx`."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from nfqfw.conntrack._expectations cimport ExpectationTable


cdef struct Dress:              # what an injected entry is given
    uint8_t state
    uint32_t mark
    uint32_t seconds            # time-out
    uint32_t status             # Status
    uint32_t vtag[2]            # SCTP
    uint64_t labels[2]


cdef int read_dress(Dress* dress, entry) except -1


cdef class EntryTable(ExpectationTable):
    cdef bint _listed(self, uint32_t i, bint unconfirmed)
    cdef void _dress(self, uint32_t i, const Dress* dress, uint64_t now, uint32_t portid) noexcept
