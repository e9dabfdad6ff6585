"""What Linux refuses of an IPv6 packet that arrives, before any hook: addresses and hop-by-hop options.  Header-only.

Live, such a packet never comes: the kernel has looked.  A capture or a test may hold one, and gets the same answer, BAD_IP.  What
follows from the header alone (version, lengths) is _parse's; IPv4 has nothing beyond that.  RFC 4291 2.5.3 and 2.7, RFC 4291
erratum 3480, RFC 8200 4.2, RFC 2711, RFC 2675; each compared with the kernel by tests/flows/hostile_ip_rcv6.flow.

Not looked at, because a sysctl decides: how many options there are (net.ipv6.max_hbh_opts_number), and how long they are.
"""

from libc.stdint cimport uint8_t, uint32_t

from nfqfw._host cimport HostHeader, Interface, interface_by_index
from nfqfw._packet cimport Packet, be16, be32


cdef enum:
    NEXT_HOP_BY_HOP = 0
    MULTICAST = 0xff                # first byte of a multicast address; the low half of the second is its scope
    SCOPE_RESERVED = 0
    SCOPE_INTERFACE = 1
    LOOPBACK_DEVICE = 8             # IFF_LOOPBACK
    OPTION_PAD1 = 0
    OPTION_PADN = 1
    OPTION_ROUTER_ALERT = 5
    OPTION_JUMBO = 0xc2
    PADDING_MAX = 7                 # bytes in a row: more can only be a hidden channel
    SKIP_UNKNOWN = 0                # the two high bits of an option: what to do with one that is not known


cdef inline bint is_loopback6(const uint8_t* address) noexcept nogil:
    return be32(address) == 0 and be32(address + 4) == 0 and be32(address + 8) == 0 and be32(address + 12) == 1


cdef inline bint by_loopback(const HostHeader* host, uint32_t ifindex) noexcept nogil:
    """It came by the loopback device, or nobody knows by which."""
    cdef const Interface* found = interface_by_index(host, ifindex)
    return found == NULL or (found.flags & LOOPBACK_DEVICE) != 0


cdef inline bint jumbo_fits(const Packet* p, const uint8_t* option, uint32_t at) noexcept nogil:
    """A jumbo payload option (RFC 2675): aligned to 4n + 2, alone in naming the length, which is over 65,535."""
    return option[1] == 4 and (at & 3) == 2 and be16(p.data + 4) == 0 and be32(option + 2) > 65535 and be32(option + 2) <= p.total - 40


cdef inline bint options_refused(const Packet* p) noexcept nogil:
    """Hop-by-hop options behind the IPv6 header: malformed, or one that asks to be dropped where it is not known."""
    cdef const uint8_t* h = p.data
    cdef uint32_t at = 42, end, size, k, padding = 0
    if p.len < 48:
        return p.total == p.len     # the kernel asks for the whole header; of a cut capture nobody knows
    end = 40 + ((<uint32_t>h[41] + 1) << 3)
    if end > p.len:
        return end > p.total
    while at < end:
        if h[at] == OPTION_PAD1:
            padding += 1
            at += 1
            if padding > PADDING_MAX:
                return True
            continue
        if end - at < 2:
            return True
        size = <uint32_t>h[at + 1] + 2
        if size > end - at:
            return True
        if h[at] == OPTION_PADN:
            padding += size
            if padding > PADDING_MAX:
                return True
            for k in range(2, size):
                if h[at + k]:
                    return True
        else:
            padding = 0
            if h[at] == OPTION_ROUTER_ALERT:
                if size != 4:
                    return True
            elif h[at] == OPTION_JUMBO:
                if not jumbo_fits(p, h + at, at):
                    return True
            elif h[at] >> 6 != SKIP_UNKNOWN:
                return True
        at += size
    return False


cdef inline bint refused_on_receipt(const Packet* p, const HostHeader* host) noexcept nogil:
    """An IPv6 packet with a sound header, at its first crossing of PREROUTING, INPUT or FORWARD."""
    cdef const uint8_t* source = p.data + 8
    cdef const uint8_t* target = p.data + 24
    if source[0] == MULTICAST:
        return True
    if target[0] == MULTICAST:
        if (target[1] & 15) == SCOPE_RESERVED or ((target[1] & 15) == SCOPE_INTERFACE and not by_loopback(host, p.ifin)):
            return True
    if (is_loopback6(source) or is_loopback6(target)) and not by_loopback(host, p.ifin):
        return True
    return p.data[6] == NEXT_HOP_BY_HOP and options_refused(p)
