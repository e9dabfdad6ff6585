"""ExpectationTable: the expectations of a flow table.  See `_expectations.pyx`."""

from libc.stdint cimport uint32_t

from nfqfw._conn cimport Tuple
from nfqfw.conntrack._memory cimport TableMemory


cdef fill_tuple(Tuple* a, family, proto, side)


cdef class ExpectationTable(TableMemory):
    cdef uint32_t _find(self, family, proto, side, uint32_t* direction)
