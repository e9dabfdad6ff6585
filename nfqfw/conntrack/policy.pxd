"""Time-out policies: rows that entries refer to by number.  Header-only, used by `_memory` and `_policies` alone.

Overview.  A CT rule names a policy, the connection that its packet begins remembers the row (ConnCold.timeout_policy, flagged
by CONN_TIMEOUTS), and its tracker takes the times from there (track.pxd, timeouts).  A row never changes while entries refer to
it; when it is deleted they go back to the tunables with their next packet, as in the kernel.

Locking.  One writer at a time, who holds the lock of TimeoutPolicies; packets only read.  No rule in force may name a policy that
is deleted: no packet then begins a connection with it.

Crash consistency.  `length` is 0 while a row is written or deleted; who takes the table over finishes the deletion.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memset

from nfqfw._atomic cimport and8, fence, lock, unlock
from nfqfw._conn cimport CONN_TIMEOUTS
from nfqfw.conntrack.table cimport Conntrack
from nfqfw.conntrack.life cimport conn_lock


cdef enum:
    POLICY_SECONDS = 16         # TimeoutPolicy.seconds


cdef inline void policy_forget(Conntrack* t, uint32_t row) noexcept nogil:
    """Delete a row: no entry refers to it any more."""
    cdef uint32_t i
    t.table.policies[row].length = 0
    fence()
    for i in range(1, t.header.high):
        if t.table.hot[i].flags & CONN_TIMEOUTS and t.table.cold[i].timeout_policy == row:
            lock(conn_lock(t, i))
            if t.table.cold[i].timeout_policy == row:
                and8(&t.table.hot[i].flags, 0xff - CONN_TIMEOUTS)
            unlock(conn_lock(t, i))
    memset(&t.table.policies[row], 0, sizeof(t.table.policies[row]))


cdef inline void policies_rebuild(Conntrack* t) noexcept nogil:
    """After a take-over: what a kill left half written or half deleted goes."""
    cdef uint32_t row
    for row in range(1, t.header.policy_high):
        if t.table.policies[row].serial and not 0 < t.table.policies[row].length <= POLICY_SECONDS:
            policy_forget(t, row)
        t.table.policies[row].name[31] = 0
