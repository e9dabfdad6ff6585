"""What every tracker uses: the refresh step, time-outs, checksum tests.  Header-only.

The caller holds the connection's lock.  A tracker reads the transport header at p.thoff and says Track; only the refresh
step touches time-out and counters, so a packet that a tracker "ignores" leaves both alone.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from nfqfw._atomic cimport add64, or8, or16, or32
from nfqfw._checksum cimport fold, sum_bytes, sum_pseudo
from nfqfw._conn cimport ASSURED, CONFIRMED, CONN_ACCT, CONN_EVENT, CONN_TIMEOUTS, FIXED_TIMEOUT, TELL_ASSURED, TICKS, ConnHot, TimeoutPolicy, ticks
from nfqfw.conntrack.table cimport S_CSUM_UNCHECKED, T_CHECKSUM, Conntrack
from nfqfw._packet cimport IPV4, SKB_CSUMNOTREADY, Packet, destination, l4_len, source


cdef inline const uint32_t* timeouts(const Conntrack* t, uint32_t i, uint32_t first) noexcept nogil:
    """Time-outs of entry i's tracker in seconds: the tunables from `first` on, or those of the policy a CT rule gave the entry."""
    cdef const TimeoutPolicy* policy
    if t.table.hot[i].flags & CONN_TIMEOUTS:
        policy = &t.table.policies[t.table.cold[i].timeout_policy]
        if policy.length and policy.first == first:
            return policy.seconds
    return &t.tunable[first]


cdef inline void count(Conntrack* t, uint32_t stat) noexcept nogil:
    add64(&t.stat[stat], 1)


cdef inline void account(Conntrack* t, const Packet* p, uint32_t i, uint32_t direction) noexcept nogil:
    """Packets and bytes of one direction; the entry decides (nf_conntrack_acct when it was made)."""
    if t.table.hot[i].flags & CONN_ACCT:
        add64(&t.table.acct[i].packets[direction], 1)
        add64(&t.table.acct[i].bytes[direction], p.total)


cdef inline void refresh(Conntrack* t, const Packet* p, uint32_t i, uint32_t direction, uint32_t timeout) noexcept nogil:
    """Start the entry's time anew (`timeout` in ticks) and count the packet.  Unconfirmed: confirm will add the moment."""
    cdef ConnHot* c = &t.table.hot[i]
    if not c.status & FIXED_TIMEOUT:
        c.expires = timeout + ticks(t.now_ns) if c.status & CONFIRMED else timeout
    account(t, p, i, direction)


cdef inline void tell(Conntrack* t, uint32_t i, uint16_t bits) noexcept nogil:
    """The next event of entry i has these EventBit to tell; it is sent when the packet has passed its last hook."""
    or8(&t.table.hot[i].flags, CONN_EVENT)
    or16(&t.table.cold[i].pending, bits)


cdef inline void assure(Conntrack* t, uint32_t i) noexcept nogil:
    cdef ConnHot* c = &t.table.hot[i]
    if not c.status & ASSURED:
        or32(&c.status, ASSURED)
        tell(t, i, TELL_ASSURED)


cdef inline bint verifiable(Conntrack* t, const Packet* p) noexcept nogil:
    """True if the transport checksum can and must be tested: it came from outside, whole, with a finished checksum."""
    if not t.tunable[T_CHECKSUM] or p.local or p.skbinfo & SKB_CSUMNOTREADY:
        return False
    if p.len < p.l3_len or p.len < p.total:
        count(t, S_CSUM_UNCHECKED)
        return False
    return True


cdef inline uint16_t transport_sum(const Packet* p, uint32_t covered, uint8_t proto) noexcept nogil:
    """0 if the first `covered` bytes of the transport sum up right under the pseudo-header (whose length is all of it)."""
    cdef uint32_t total = sum_pseudo(source(p), destination(p), 4 if p.family == IPV4 else 16, l4_len(p), proto)
    return fold(sum_bytes(p.data + p.thoff, covered, total))
