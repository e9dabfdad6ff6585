"""Host: what the kernel knows and rules ask, as one flat block that queue threads read.  Header-only.

`host.py` builds a block (live by rtnetlink, or from a snapshot), the engine swaps one pointer at a batch boundary, as it
does with a Program.  Sections are found by offset from the start of the block, so it can lie in shared memory.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp


cdef enum:
    HOST_MAGIC = 0x6e665148     # 'nfQH'
    IFNAMSIZ = 16


cdef enum AddressType:          # RTN_* of the kernel
    ADDR_UNICAST = 1
    ADDR_LOCAL = 2
    ADDR_BROADCAST = 3
    ADDR_ANYCAST = 4
    ADDR_MULTICAST = 5


cdef struct Interface:          # 40 bytes; host.py packs it as "<II16sIIIHH"
    uint32_t index              # ifindex
    uint32_t flags              # IFF_*
    char name[16]               # NUL padded
    uint32_t mtu
    uint32_t group              # IFLA_GROUP
    uint32_t master             # ifindex of the bridge or VRF, 0 = none
    uint16_t type               # ARPHRD_*
    uint16_t pad


cdef struct HostAddress:        # 48 bytes; host.py packs it as "<IBBHI16s16sI"; sorted by (family, address)
    uint32_t ifindex
    uint8_t family              # 2 or 10
    uint8_t prefix              # length of the subnet's prefix
    uint16_t flags              # IFA_F_* low 16 bits; 1 = secondary
    uint32_t scope
    uint8_t address[16]         # wire order, IPv4 in the first 4 bytes
    uint8_t broadcast[16]       # IPv4 broadcast address in the first 4 bytes, zero = none
    uint32_t order              # position in the kernel's list of the interface (primary choice)


cdef struct HostRoute:          # 64 bytes; host.py packs it as "<BBBBII16s16sIIIII"; longest prefix first per family, then metric
    uint8_t family
    uint8_t prefix
    uint8_t type                # AddressType or RTN_UNREACHABLE 7, RTN_BLACKHOLE 6, RTN_PROHIBIT 8
    uint8_t scope
    uint32_t table              # 254 main, 255 local
    uint32_t ifindex
    uint8_t destination[16]
    uint8_t gateway[16]         # zero = on link
    uint32_t prefsrc4           # IPv4 preferred source as raw bytes, 0 = none
    uint32_t metric
    uint32_t mtu                # RTAX_MTU, 0 = the interface's
    uint32_t realm
    uint32_t pad


cdef struct HostHeader:         # 64 bytes; host.py packs it as "<IIQ12I"
    uint32_t magic
    uint32_t size
    uint64_t generation
    uint32_t n_interfaces
    uint32_t interfaces         # offset of Interface[], sorted by index
    uint32_t n_addresses
    uint32_t addresses          # offset of HostAddress[]
    uint32_t n_routes
    uint32_t routes             # offset of HostRoute[]
    uint32_t icmp_ratelimit     # net.ipv4.icmp_ratelimit, ms; 0 = off
    uint32_t icmp_ratemask      # net.ipv4.icmp_ratemask
    uint32_t icmp_msgs_per_sec
    uint32_t icmp_msgs_burst
    uint32_t icmp6_ratelimit    # net.ipv6.icmp.ratelimit, ms
    uint32_t default_ttl        # net.ipv4.ip_default_ttl


cdef inline bint host_section_fits(uint64_t size, uint32_t n, uint32_t at, uint64_t element) noexcept nogil:
    return at >= sizeof(HostHeader) and at % 4 == 0 and at + n * element <= size


cdef inline const char* host_fault(const HostHeader* h, uint64_t size) noexcept nogil:
    """What makes these bytes no Host block, NULL = they are one: readers trust every count and offset of it."""
    if size < sizeof(HostHeader):
        return "it is shorter than its header"
    if h.magic != HOST_MAGIC:
        return "it does not begin as one"
    if h.size != size:
        return "its length is not the one it tells"
    if not host_section_fits(size, h.n_interfaces, h.interfaces, sizeof(Interface)):
        return "its interfaces lie outside"
    if not host_section_fits(size, h.n_addresses, h.addresses, sizeof(HostAddress)):
        return "its addresses lie outside"
    if not host_section_fits(size, h.n_routes, h.routes, sizeof(HostRoute)):
        return "its routes lie outside"
    return NULL


cdef inline const Interface* interface_by_index(const HostHeader* h, uint32_t index) noexcept nogil:
    """The interface, or NULL.  Binary search: namespaces have few, routers with thousands pay 12 steps."""
    cdef const Interface* table
    cdef uint32_t low = 0, high, middle
    if h == NULL or index == 0:
        return NULL
    table = <const Interface*>(<const uint8_t*>h + h.interfaces)
    high = h.n_interfaces
    while low < high:
        middle = (low + high) >> 1
        if table[middle].index < index:
            low = middle + 1
        else:
            high = middle
    if low < h.n_interfaces and table[low].index == index:
        return &table[low]
    return NULL


cdef inline const HostAddress* local_address(const HostHeader* h, uint8_t family, const uint8_t* address) noexcept nogil:
    """The local address equal to this one, or NULL."""
    cdef const HostAddress* table
    cdef uint32_t low = 0, high, middle
    cdef int order
    cdef uint32_t n = 4 if family == 2 else 16
    if h == NULL:
        return NULL
    table = <const HostAddress*>(<const uint8_t*>h + h.addresses)
    high = h.n_addresses
    while low < high:
        middle = (low + high) >> 1
        order = <int>table[middle].family - <int>family
        if order == 0:
            order = memcmp(table[middle].address, address, n)
        if order < 0:
            low = middle + 1
        else:
            high = middle
    if low < h.n_addresses and table[low].family == family and memcmp(table[low].address, address, n) == 0:
        return &table[low]
    return NULL


cdef inline uint32_t address_type(const HostHeader* h, uint8_t family, const uint8_t* address) noexcept nogil:
    """AddressType as the kernel's local table answers it: local, broadcast, multicast or unicast."""
    cdef const HostAddress* table
    cdef uint32_t i
    if family == 10:
        if address[0] == 0xff:
            return ADDR_MULTICAST
        return ADDR_LOCAL if local_address(h, family, address) != NULL else ADDR_UNICAST
    if address[0] >= 224 and address[0] < 240:
        return ADDR_MULTICAST
    if address[0] == 255 and address[1] == 255 and address[2] == 255 and address[3] == 255:
        return ADDR_BROADCAST
    if address[0] == 0:
        return ADDR_BROADCAST if address[1] == 0 and address[2] == 0 and address[3] == 0 else ADDR_UNICAST
    if address[0] == 127:
        return ADDR_LOCAL
    if h == NULL:
        return ADDR_UNICAST
    if local_address(h, family, address) != NULL:
        return ADDR_LOCAL
    table = <const HostAddress*>(<const uint8_t*>h + h.addresses)
    for i in range(h.n_addresses):
        if table[i].family == 2 and table[i].broadcast[0] != 0 and memcmp(table[i].broadcast, address, 4) == 0:
            return ADDR_BROADCAST
    return ADDR_UNICAST
