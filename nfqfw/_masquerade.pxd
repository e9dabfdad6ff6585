"""Addresses that NAT takes from the host: MASQUERADE by route, REDIRECT by incoming interface.  Header-only.

IPv4 follows inet_select_addr of the kernel, IPv6 the source address selection of RFC 6724 as far as its facts are in the
Host block (no home addresses).  spec/conntrack.md 2.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy

from nfqfw._host cimport ADDR_UNICAST, HostAddress, HostHeader, HostRoute
from nfqfw._packet cimport IPV4, IPV6


cdef enum:
    FLAG_SECONDARY = 1          # IFA_F_SECONDARY; IPv6: IFA_F_TEMPORARY
    FLAG_DADFAILED = 8
    FLAG_DEPRECATED = 0x20
    FLAG_TENTATIVE = 0x40
    FLAG_OPTIMISTIC = 4
    SCOPE_LINK4 = 253           # RT_SCOPE_LINK
    SCOPE_NODE6 = 1             # RFC 4291 2.7 scopes
    SCOPE_LINK6 = 2
    SCOPE_SITE6 = 5
    SCOPE_GLOBAL6 = 14


cdef inline const HostAddress* host_addresses(const HostHeader* h) noexcept nogil:
    return <const HostAddress*>(<const uint8_t*>h + h.addresses)


cdef inline bint in_prefix(const uint8_t* address, const uint8_t* network, uint32_t bits) noexcept nogil:
    """address lies in network/bits."""
    cdef uint32_t whole = bits >> 3, rest = bits & 7
    if memcmp(address, network, whole) != 0:
        return False
    return rest == 0 or ((address[whole] ^ network[whole]) >> (8 - rest)) == 0


cdef inline const HostRoute* route_to(const HostHeader* h, uint8_t family, const uint8_t* address, uint32_t ifindex) noexcept nogil:
    """The best unicast route to an address, among those by this interface when ifindex is not 0; NULL = none."""
    cdef const HostRoute* routes
    cdef uint32_t i
    if h == NULL:
        return NULL
    routes = <const HostRoute*>(<const uint8_t*>h + h.routes)
    for i in range(h.n_routes):
        if routes[i].family == family and routes[i].type == ADDR_UNICAST and (not ifindex or routes[i].ifindex == ifindex):
            if in_prefix(address, routes[i].destination, routes[i].prefix):
                return &routes[i]
    return NULL


cdef inline bint is_zero(const uint8_t* address, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        if address[i]:
            return False
    return True


# ---- IPv4 -----------------------------------------------------------------------------------------------------------------

cdef inline const HostAddress* select4(const HostHeader* h, uint32_t ifindex, const uint8_t* toward) noexcept nogil:
    """First primary global address of the interface whose subnet holds `toward` (NULL: any), else its first one."""
    cdef const HostAddress* table = host_addresses(h)
    cdef const HostAddress* a
    cdef const HostAddress* best = NULL
    cdef const HostAddress* first = NULL
    cdef uint32_t i
    for i in range(h.n_addresses):
        a = &table[i]
        if a.family != IPV4:
            break                           # sorted by family: IPv6 comes behind
        if a.ifindex != ifindex or a.flags & FLAG_SECONDARY or a.scope != 0:
            continue
        if first == NULL or a.order < first.order:
            first = a
        if toward != NULL and in_prefix(toward, a.address, a.prefix) and (best == NULL or a.order < best.order):
            best = a
    return best if best != NULL else first


cdef inline bint masquerade4(const HostHeader* h, uint32_t ifindex, const uint8_t* destination, uint8_t* out) noexcept nogil:
    """Source for a packet that leaves by this interface.  False: the host has no usable address."""
    cdef const HostRoute* route = route_to(h, IPV4, destination, ifindex)
    cdef const HostAddress* found
    cdef const HostAddress* table
    cdef uint32_t i
    if h == NULL:
        return False
    if route != NULL and not is_zero(&route.gateway[0], 4):
        destination = &route.gateway[0]
    found = select4(h, ifindex, destination)
    if found == NULL:                       # another interface's, the one with the lowest index first
        table = host_addresses(h)
        for i in range(h.n_addresses):
            if table[i].family != IPV4 or table[i].flags & FLAG_SECONDARY or table[i].scope != 0:
                continue
            if found == NULL or table[i].ifindex < found.ifindex or (table[i].ifindex == found.ifindex and table[i].order < found.order):
                found = &table[i]
    if found == NULL:
        return False
    memcpy(out, found.address, 4)
    return True


cdef inline bint redirect4(const HostHeader* h, uint32_t ifindex, uint8_t* out) noexcept nogil:
    """The first address of the interface's list.  False: it has none."""
    cdef const HostAddress* table
    cdef const HostAddress* first = NULL
    cdef uint32_t i
    if h == NULL:
        return False
    table = host_addresses(h)
    for i in range(h.n_addresses):
        if table[i].family == IPV4 and table[i].ifindex == ifindex and (first == NULL or table[i].order < first.order):
            first = &table[i]
    if first == NULL:
        return False
    memcpy(out, first.address, 4)
    return True


# ---- IPv6 -----------------------------------------------------------------------------------------------------------------

cdef inline uint32_t scope6(const uint8_t* a) noexcept nogil:
    """Scope of an address, RFC 6724 3.1."""
    if a[0] == 0xff:
        return a[1] & 15
    if a[0] == 0xfe and (a[1] & 0xc0) == 0x80:
        return SCOPE_LINK6
    if a[0] == 0xfe and (a[1] & 0xc0) == 0xc0:
        return SCOPE_SITE6
    if is_zero(a, 15) and a[15] == 1:
        return SCOPE_LINK6                  # loopback counts as link-local
    return SCOPE_GLOBAL6


cdef inline uint32_t label6(const uint8_t* a) noexcept nogil:
    """Label of the kernel's default policy table (RFC 6724 2.1, with Teredo, ORCHID and ULA)."""
    if is_zero(a, 15) and a[15] == 1:
        return 0
    if a[0] == 0x20 and a[1] == 0x02:
        return 2
    if is_zero(a, 10) and a[10] == 0xff and a[11] == 0xff:
        return 4
    if is_zero(a, 12):
        return 3
    if (a[0] & 0xfe) == 0xfc:
        return 5
    if a[0] == 0x20 and a[1] == 0x01 and a[2] == 0 and a[3] == 0:
        return 6
    if a[0] == 0x20 and a[1] == 0x01 and a[2] == 0 and (a[3] & 0xf0) == 0x10:
        return 7
    return 1


cdef inline uint32_t common_bits(const uint8_t* a, const uint8_t* b, uint32_t most) noexcept nogil:
    """Length of the common prefix, at most `most` bits."""
    cdef uint32_t n = 0
    cdef uint8_t change
    while n < most and a[n >> 3] == b[n >> 3] and n + 8 <= most:
        n += 8
    if n >= most or n >= 128:
        return most
    change = a[n >> 3] ^ b[n >> 3]
    while n < most and not change & 0x80:
        change = <uint8_t>(change << 1)
        n += 1
    return n


cdef inline int32_t scope_rank(uint32_t source, uint32_t destination) noexcept nogil:
    """Rule 2 as an order: a scope that reaches the destination beats one that does not; nearest above, else widest below."""
    return <int32_t>(-source) if source >= destination else <int32_t>source - 128


cdef inline bint better6(const HostAddress* a, const HostAddress* b, const uint8_t* destination, uint32_t ifindex) noexcept nogil:
    """a goes before b as the source towards destination: rules 1, 2, 3, 5, 6, 7, 8 of RFC 6724 5."""
    cdef int32_t x, y
    x = memcmp(a.address, destination, 16) == 0
    y = memcmp(b.address, destination, 16) == 0
    if x != y:
        return x > y
    x = scope_rank(scope6(a.address), scope6(destination))
    y = scope_rank(scope6(b.address), scope6(destination))
    if x != y:
        return x > y
    x = (a.flags & FLAG_DEPRECATED) == 0
    y = (b.flags & FLAG_DEPRECATED) == 0
    if x != y:
        return x > y
    x = a.ifindex == ifindex
    y = b.ifindex == ifindex
    if x != y:
        return x > y
    x = label6(a.address) == label6(destination)
    y = label6(b.address) == label6(destination)
    if x != y:
        return x > y
    x = (a.flags & FLAG_SECONDARY) == 0     # public before temporary: use_tempaddr is 0 unless someone sets it
    y = (b.flags & FLAG_SECONDARY) == 0
    if x != y:
        return x > y
    x = <int32_t>common_bits(a.address, destination, a.prefix)
    y = <int32_t>common_bits(b.address, destination, b.prefix)
    if x != y:
        return x > y
    return a.ifindex == b.ifindex and a.order < b.order


cdef inline bint usable6(const HostAddress* a) noexcept nogil:
    return a.family == IPV6 and not a.flags & FLAG_DADFAILED and (not a.flags & FLAG_TENTATIVE or a.flags & FLAG_OPTIMISTIC)


cdef inline bint masquerade6(const HostHeader* h, uint32_t ifindex, const uint8_t* destination, uint8_t* out) noexcept nogil:
    """Best source address towards destination by this interface.  False: none."""
    cdef const HostAddress* table
    cdef const HostAddress* best = NULL
    cdef uint32_t i
    cdef bint link = scope6(destination) <= SCOPE_LINK6
    if h == NULL:
        return False
    table = host_addresses(h)
    for i in range(h.n_addresses):
        if not usable6(&table[i]) or (link and table[i].ifindex != ifindex):
            continue
        if best == NULL or better6(&table[i], best, destination, ifindex):
            best = &table[i]
    if best == NULL:
        return False
    memcpy(out, best.address, 16)
    return True


cdef inline bint redirect6(const HostHeader* h, uint32_t ifindex, const uint8_t* destination, uint8_t* out) noexcept nogil:
    """First address of the interface's list of the destination's scope (a global destination takes any).  False: none."""
    cdef const HostAddress* table
    cdef const HostAddress* first = NULL
    cdef uint32_t i, wanted = scope6(destination)
    if h == NULL:
        return False
    table = host_addresses(h)
    for i in range(h.n_addresses):
        if not usable6(&table[i]) or table[i].ifindex != ifindex:
            continue
        if wanted < SCOPE_GLOBAL6 and scope6(table[i].address) != wanted:
            continue
        if first == NULL or table[i].order < first.order:
            first = &table[i]
    if first == NULL:
        return False
    memcpy(out, first.address, 16)
    return True
