"""AcceptAll: an engine that accepts every packet.  The floor of the benchmarks, and a probe for the transport's tests.

What is measured with it is the cost of NFQUEUE and of our loop; everything nfqfw adds is measured against it.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uint32_t, uint64_t

from nfqfw._outbox cimport EngineDoor
from nfqfw._packet cimport ACCEPT, Packet


cdef void accept_batch(void* engine, Packet* packets, uint32_t n, uint64_t now_ns, int64_t wall_ns) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        packets[i].verdict = ACCEPT


cdef class AcceptAll:
    cdef EngineDoor _door

    def __cinit__(self):
        self._door.batch = accept_batch

    def door(self):
        return PyCapsule_New(&self._door, b"nfqfw.EngineDoor", NULL)

    def load(self, loaded):
        """As Engine.load; there are no rules here."""

    def set_attached(self, bits):
        """As Engine.set_attached; every crossing is judged by itself here."""
