"""targets CT and NOTRACK: what tracking is told about a packet before it starts.  Header-only."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from nfqfw._packet cimport CT_INVALID, CT_UNTRACKED, Packet
from nfqfw._program cimport RAW, Context


cdef enum ZoneSide:             # Packet.zone_dir
    ZONE_BOTH = 0
    ZONE_ORIGINAL = 1
    ZONE_REPLY = 2


cdef struct CtInfoBlock:        # "<IHHHBBBBH"; the template that Packet.ct_template names
    uint32_t state              # offset of its mark, 4 bytes, in the rule-state memory
    uint16_t zone
    uint16_t helper             # number of the helper (ext/helpers.py), 0 = none
    uint16_t events             # EventBit that are wanted, 0 = no choice
    uint8_t zone_dir            # ZoneSide
    uint8_t zone_from_mark      # 1 = the zone is the low half of the packet's mark
    uint8_t notrack
    uint8_t pad
    uint16_t timeouts           # number of the time-out policy's name (ext/timeouts.py), 0 = none


cdef inline uint32_t* template_mark(const Packet* p, const Context* c) noexcept nogil:
    """The connmark that the raw table sees behind a CT rule, NULL = none: the template's own, which lasts as long as the rule.

    No connection inherits it.  Queue threads share it, as CPUs do in the kernel: a load and a store, the last one wins.
    """
    if p.conn or p.ct_template == 0 or c.table != RAW:
        return NULL
    return <uint32_t*>(c.state + (<const CtInfoBlock*>(c.data + p.ct_template)).state)


cdef inline int t_NOTRACK(Packet* p, const void* info, Context* c) noexcept nogil:
    """A packet that already has a connection or a template keeps it, as in the kernel."""
    if p.conn == 0 and p.ct_template == 0 and p.ctinfo == CT_INVALID:
        p.ctinfo = CT_UNTRACKED
        c.untracked = 1
    return -1


cdef inline int t_CT(Packet* p, const CtInfoBlock* info, Context* c) noexcept nogil:
    """Give the packet a template; the first CT rule wins."""
    if p.conn or p.ct_template or p.ctinfo != CT_INVALID:
        return -1
    if info.notrack:
        return t_NOTRACK(p, info, c)
    p.zone = <uint16_t>(p.mark & 0xffff) if info.zone_from_mark else info.zone
    p.zone_dir = info.zone_dir
    p.ct_template = <uint32_t>(<const uint8_t*>info - c.data)
    return -1
