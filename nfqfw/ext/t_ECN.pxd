"""target ECN: the ECT codepoint of the IP header, ECE and CWR of TCP.  Header-only."""

from libc.stdint cimport uint8_t

from nfqfw._packet cimport DROP, HAS_TCP, Packet
from nfqfw._program cimport Context
from nfqfw._rewrite cimport P_TCP, put_tos, tcp_put8, writable


cdef enum EcnBit:               # IPT_ECN_OP_* of the kernel
    ECN_IP = 0x01
    ECN_ECE = 0x10
    ECN_CWR = 0x20


cdef struct EcnInfo:            # "<BBBB"
    uint8_t operation           # EcnBit
    uint8_t ect                 # codepoint, 0..3
    uint8_t ece
    uint8_t cwr


cdef inline int t_ECN(Packet* p, const EcnInfo* info, Context* c) noexcept nogil:
    cdef uint8_t flags
    if info.operation & ECN_IP and (p.tos & 3) != info.ect and not put_tos(p, (p.tos & 0xfc) | info.ect):
        return DROP
    if not info.operation & (ECN_ECE | ECN_CWR) or p.proto != P_TCP:
        return -1
    if not p.flags & HAS_TCP:
        return DROP
    flags = p.tcp_flags
    if info.operation & ECN_ECE:
        flags = (flags & 0xbf) | (0x40 if info.ece else 0)
    if info.operation & ECN_CWR:
        flags = (flags & 0x7f) | (0x80 if info.cwr else 0)
    if flags == p.tcp_flags:
        return -1
    if not writable(p):
        return DROP
    tcp_put8(p, p.thoff + 13, flags)
    p.tcp_flags = flags
    return -1
