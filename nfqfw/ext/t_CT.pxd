"""target CT --notrack and NOTRACK: the packet stays untracked.  Header-only."""

from nfqfw._packet cimport CT_UNTRACKED, Packet
from nfqfw._program cimport Context


cdef inline int t_NOTRACK(Packet* p, const void* info, Context* c) noexcept nogil:
    """A packet that already has a connection or a template keeps it, as in the kernel."""
    if p.conn == 0 and p.ct_template == 0 and p.ctinfo != CT_UNTRACKED:
        p.ctinfo = CT_UNTRACKED
        c.untracked = 1
    return -1
