"""match owner: user and group of the sending socket, as the queue tells them.  Header-only."""

from libc.stdint cimport uint32_t

from nfqfw._packet cimport HAS_ICMP, KNOWN_GID, KNOWN_UID, Packet
from nfqfw._program cimport Context

cdef enum OwnerAsked:
    OWNER_UID = 1
    OWNER_GID = 2
    OWNER_SOCKET = 4


cdef struct OwnerInfo:          # "<IIIIII"
    uint32_t uid[2]
    uint32_t gid[2]
    uint32_t asked              # OwnerAsked
    uint32_t invert


cdef inline bint m_owner(Packet* p, const OwnerInfo* info, Context* c) noexcept nogil:
    """Without a socket only a rule whose options are all inverted is true.

    The kernel sends ICMP errors by a socket that nobody owns, and a REJECT's RST by none: so do ours count here.
    """
    if p.own and p.flags & HAS_ICMP:
        return not (info.asked & info.invert & OWNER_SOCKET) and (info.asked ^ info.invert) & (OWNER_UID | OWNER_GID) == 0
    if p.own:
        return info.asked == info.invert
    if not (p.known & (KNOWN_UID | KNOWN_GID)):
        return info.asked == info.invert
    if info.asked & info.invert & OWNER_SOCKET:
        return False
    if info.asked & OWNER_UID and (info.uid[0] <= p.uid <= info.uid[1]) == ((info.invert & OWNER_UID) != 0):
        return False
    return not (info.asked & OWNER_GID and (info.gid[0] <= p.gid <= info.gid[1]) == ((info.invert & OWNER_GID) != 0))
