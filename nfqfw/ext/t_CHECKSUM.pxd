"""target CHECKSUM: complete a partial transport checksum.  Header-only.

A packet of which the kernel left the checksum to a device is marked as changed, and completed at the end of the crossing
(rewrite_finish).  Super-packets are left alone, as in the kernel.
"""

from nfqfw._packet cimport DIRTY_PAYLOAD, SKB_CSUMNOTREADY, SKB_GSO, TRUNCATED, Packet
from nfqfw._program cimport Context


cdef inline int t_CHECKSUM(Packet* p, Context* c) noexcept nogil:
    if p.skbinfo & SKB_CSUMNOTREADY and not p.skbinfo & SKB_GSO and not p.flags & TRUNCATED:
        p.dirty |= DIRTY_PAYLOAD
    return -1
