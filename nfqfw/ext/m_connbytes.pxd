"""match connbytes.  Header-only."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from nfqfw._conn cimport CONN_ACCT, ConnAcct
from nfqfw._packet cimport Packet
from nfqfw._program cimport Context


cdef struct ConnbytesInfo:      # "<QQBBBx4x"
    uint64_t low
    uint64_t high
    uint8_t mode                # 0 packets, 1 bytes, 2 bytes per packet
    uint8_t direction           # 0 original, 1 reply, 2 both
    uint8_t invert
    uint8_t pad[5]


cdef inline bint m_connbytes(Packet* p, const ConnbytesInfo* info, Context* c) noexcept nogil:
    """The packet at hand is already counted.  Without a connection or accounting: false, inverted too."""
    cdef const ConnAcct* acct
    cdef uint64_t packets, count
    if p.conn == 0 or not c.conns.hot[p.conn].flags & CONN_ACCT:
        return False
    acct = &c.conns.acct[p.conn]
    packets = acct.packets[0] + acct.packets[1] if info.direction == 2 else acct.packets[info.direction]
    count = acct.bytes[0] + acct.bytes[1] if info.direction == 2 else acct.bytes[info.direction]
    if info.mode == 0:
        count = packets
    elif info.mode == 2:
        count = count // packets if packets else 0
    return (info.low <= count <= info.high) ^ (info.invert != 0)
