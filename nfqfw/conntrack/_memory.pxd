"""TableMemory: a flow table's life in this process.  See `_memory.pyx`."""

from libc.stdint cimport uint32_t

from nfqfw._arena cimport Arena
from nfqfw.conntrack.table cimport Conntrack


cdef class TableMemory:
    cdef Conntrack* handle
    cdef readonly Arena arena

    cdef take_over(self)
    cdef _enlarge(self, uint32_t entries)
