"""The rule's own part: addresses, interfaces, protocol, fragment.  Header-only.

Every function is one opcode; compile.py leaves out tests that test nothing.  Missing interfaces compare as the empty name.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from nfqfw._host cimport Interface
from nfqfw._packet cimport BAD_CHAIN, IPV6, LATER_FRAGMENT, Packet, destination, raw32, raw64, source
from nfqfw._program cimport Context


cdef struct Address4Info:       # "<4s4sI"
    uint8_t address[4]          # wire order, already masked
    uint8_t mask[4]
    uint32_t invert


cdef struct Address6Info:       # "<16s16sI"
    uint8_t address[16]
    uint8_t mask[16]
    uint32_t invert


cdef struct InterfaceInfo:      # "<16s16sI"
    uint8_t name[16]            # NUL padded
    uint8_t mask[16]            # 0xff where it is compared
    uint32_t invert


cdef struct ProtoInfo:          # "<BBBB"
    uint8_t proto
    uint8_t invert
    uint8_t pad[2]


cdef struct FragmentInfo:       # "<BBBB"
    uint8_t invert
    uint8_t pad[3]


cdef inline bint same4(const uint8_t* address, const Address4Info* info) noexcept nogil:
    return (((raw32(address) & raw32(info.mask)) == raw32(info.address)) ^ (info.invert != 0))


cdef inline bint same6(const uint8_t* address, const Address6Info* info) noexcept nogil:
    return ((((raw64(address) & raw64(info.mask)) ^ raw64(info.address))
             | ((raw64(address + 8) & raw64(info.mask + 8)) ^ raw64(info.address + 8))) == 0) ^ (info.invert != 0)


cdef inline bint rule_src4(Packet* p, const Address4Info* info, Context* c) noexcept nogil:
    return same4(source(p), info)


cdef inline bint rule_dst4(Packet* p, const Address4Info* info, Context* c) noexcept nogil:
    return same4(destination(p), info)


cdef inline bint rule_src6(Packet* p, const Address6Info* info, Context* c) noexcept nogil:
    return same6(source(p), info)


cdef inline bint rule_dst6(Packet* p, const Address6Info* info, Context* c) noexcept nogil:
    return same6(destination(p), info)


cdef inline bint same_interface(const Interface* interface, const InterfaceInfo* info) noexcept nogil:
    cdef uint64_t low = 0, high = 0
    if interface != NULL:
        low = raw64(<const uint8_t*>interface.name)
        high = raw64(<const uint8_t*>interface.name + 8)
    return ((((low ^ raw64(info.name)) & raw64(info.mask))
             | ((high ^ raw64(info.name + 8)) & raw64(info.mask + 8))) == 0) ^ (info.invert != 0)


cdef inline bint rule_in(Packet* p, const InterfaceInfo* info, Context* c) noexcept nogil:
    return same_interface(c.iif, info)


cdef inline bint rule_out(Packet* p, const InterfaceInfo* info, Context* c) noexcept nogil:
    return same_interface(c.oif, info)


cdef inline bint rule_proto(Packet* p, const ProtoInfo* info, Context* c) noexcept nogil:
    """IPv6: a header chain that cannot be walked to its end is a hotdrop, in a later fragment merely false."""
    if p.family == IPV6 and (p.flags & BAD_CHAIN):
        if not (p.flags & LATER_FRAGMENT):
            c.hotdrop = 1
        return False
    return (p.proto == info.proto) ^ (info.invert != 0)


cdef inline bint rule_fragment(Packet* p, const FragmentInfo* info, Context* c) noexcept nogil:
    """-f: second and later fragments.  IPv4 only."""
    return (p.fragoff != 0) ^ (info.invert != 0)
