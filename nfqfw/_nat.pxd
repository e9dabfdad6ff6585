"""NAT: what a rule asks for, and the calls the engine makes.  How it works: `_nat.pyx`."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from nfqfw._conntrack cimport Conntrack
from nfqfw._packet cimport Packet
from nfqfw._program cimport Context


cdef enum NatKind:              # NatInfo.kind
    NAT_RANGE = 0               # SNAT, DNAT: the range as the rule gives it
    NAT_MASQUERADE = 1          # the address of the interface the packet leaves by
    NAT_REDIRECT = 2            # the address of the interface it came by; in OUTPUT the loopback address
    NAT_NETMAP = 3              # the network part of the address from min_address, under the mask ~(min ^ max)


cdef enum RangeFlag:            # NatInfo.flags: NF_NAT_RANGE_* of the kernel
    RANGE_MAP_IPS = 1           # addresses are given
    RANGE_PORTS = 2             # ports are given
    RANGE_RANDOM = 4
    RANGE_PERSISTENT = 8
    RANGE_RANDOM_FULLY = 16
    RANGE_OFFSET = 32           # ports are shifted by (port - base_port)


cdef struct NatInfo:            # 44 bytes; ext/nat.py packs it as "<BBH16s16sHHHH"
    uint8_t kind                # NatKind
    uint8_t family
    uint16_t flags              # RangeFlag
    uint8_t min_address[16]     # wire order, IPv4 in the first 4 bytes; both ends are in the range
    uint8_t max_address[16]
    uint16_t min_port           # host order; ICMP: id
    uint16_t max_port
    uint16_t base_port
    uint16_t pad


cdef struct SourceNode:         # 16 bytes per connection; see NatIndex
    uint32_t next               # connections of one bucket, newest first; 0 = end
    uint32_t previous           # 0 = the first of its bucket
    uint32_t bucket             # bucket + 1; 0 = not in the index
    uint32_t life               # ConnHot.id when it was put in: another number now means another connection


cdef struct NatIndex:           # connections with a source mapping by their original source; process memory, derived
    uint32_t word_lock
    uint32_t n_buckets          # power of two
    uint32_t capacity
    uint32_t pad
    uint32_t* heads             # [n_buckets]
    SourceNode* nodes           # [capacity]


cdef uint32_t manip_of_hook(uint32_t hook) noexcept nogil
cdef uint8_t nat_setup(Conntrack* t, Packet* p, const NatInfo* info, uint32_t manip, Context* c) noexcept nogil
cdef uint8_t nat_packet(Conntrack* t, Packet* p, uint32_t manip, Context* c) noexcept nogil
cdef uint32_t nat_forget(Conntrack* t, uint8_t family, uint32_t ifindex, const uint8_t* address) noexcept nogil
cdef NatIndex* nat_index_new(uint32_t capacity) noexcept nogil
cdef void nat_index_rebuild(Conntrack* t) noexcept nogil
