"""Packets of our own (REJECT): from the outbox to the wire by raw sockets.  Header-only.

Never blocks: a full socket buffer drops the reply, counted.  Mark and interface travel as ancillary data, so one socket
per family serves all.  An IPv6 link-local destination needs its interface as scope.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from nfqfw._outbox cimport OutPacket, Outbox
from nfqfw._packet cimport IPV4
from nfqfw.queue._libc cimport (AF_INET, AF_INET6, CMSG_DATA, CMSG_LEN, CMSG_SPACE, EAGAIN, ENOBUFS, IP_PKTINFO, IPPROTO_IP,
                                IPPROTO_IPV6, IPV6_PKTINFO, MSG_DONTWAIT, SO_MARK, SOL_SOCKET, cmsghdr, in6_pktinfo,
                                in_pktinfo, iovec, msghdr, nfqfw_errno, sendmsg, sockaddr_in, sockaddr_in6)


cdef struct Replies:
    int fd4                     # raw sockets, -1 = none: replies of that family fail
    int fd6
    uint64_t sent
    uint64_t full               # socket buffer full: the reply is dropped (reject_send_full)
    uint64_t failed             # no route, too long, no socket, ...: the reply is dropped
    int last_error              # errno of the last failed one


cdef inline size_t put_control(uint8_t* at, const OutPacket* packet) noexcept nogil:
    """Ancillary data of a reply: SO_MARK and, if it has one, the interface.  Returns its length; 128 bytes of room."""
    cdef cmsghdr* head = <cmsghdr*>at
    cdef in_pktinfo out4
    cdef in6_pktinfo out6
    cdef size_t used = 0
    memset(at, 0, 128)
    if packet.mark != 0:
        head.cmsg_level = SOL_SOCKET
        head.cmsg_type = SO_MARK
        head.cmsg_len = CMSG_LEN(4)
        memcpy(CMSG_DATA(head), &packet.mark, 4)
        used = CMSG_SPACE(4)
        head = <cmsghdr*>(at + used)
    if packet.ifindex == 0:
        return used
    if packet.family == IPV4:
        memset(&out4, 0, sizeof(out4))
        out4.ipi_ifindex = <int>packet.ifindex
        head.cmsg_level = IPPROTO_IP
        head.cmsg_type = IP_PKTINFO
        head.cmsg_len = CMSG_LEN(sizeof(out4))
        memcpy(CMSG_DATA(head), &out4, sizeof(out4))
        return used + CMSG_SPACE(sizeof(out4))
    memset(&out6, 0, sizeof(out6))
    out6.ipi6_ifindex = packet.ifindex
    head.cmsg_level = IPPROTO_IPV6
    head.cmsg_type = IPV6_PKTINFO
    head.cmsg_len = CMSG_LEN(sizeof(out6))
    memcpy(CMSG_DATA(head), &out6, sizeof(out6))
    return used + CMSG_SPACE(sizeof(out6))


cdef inline void send_reply(Replies* r, OutPacket* packet) noexcept nogil:
    """Send one reply and count what became of it.  A reply shorter than its IP header fails."""
    cdef msghdr message
    cdef iovec piece
    cdef sockaddr_in to4
    cdef sockaddr_in6 to6
    cdef uint64_t control[16]           # 128 bytes, aligned for a cmsghdr
    cdef int fd = r.fd4 if packet.family == IPV4 else r.fd6
    cdef int error
    if fd < 0 or packet.len < (20 if packet.family == IPV4 else 40) or packet.len > sizeof(packet.data):
        r.failed += 1
        return
    memset(&message, 0, sizeof(message))
    if packet.family == IPV4:
        memset(&to4, 0, sizeof(to4))
        to4.sin_family = AF_INET
        memcpy(&to4.sin_addr, packet.data + 16, 4)
        message.msg_name = &to4
        message.msg_namelen = sizeof(to4)
    else:
        memset(&to6, 0, sizeof(to6))
        to6.sin6_family = AF_INET6
        memcpy(&to6.sin6_addr, packet.data + 24, 16)
        if packet.data[24] == 0xfe and (packet.data[25] & 0xc0) == 0x80:
            to6.sin6_scope_id = packet.ifindex
        message.msg_name = &to6
        message.msg_namelen = sizeof(to6)
    piece.iov_base = packet.data
    piece.iov_len = packet.len
    message.msg_iov = &piece
    message.msg_iovlen = 1
    message.msg_controllen = put_control(<uint8_t*>control, packet)
    message.msg_control = <void*>control if message.msg_controllen > 0 else NULL
    if sendmsg(fd, &message, MSG_DONTWAIT) >= 0:
        r.sent += 1
        return
    error = nfqfw_errno()
    if error == EAGAIN or error == ENOBUFS:
        r.full += 1
    else:
        r.failed += 1
        r.last_error = error


cdef inline void send_replies(Replies* r, Outbox* box) noexcept nogil:
    """Send every packet of the outbox in order, and empty it."""
    cdef uint32_t i
    for i in range(box.n_packets):
        send_reply(r, &box.packets[i])
    box.n_packets = 0
