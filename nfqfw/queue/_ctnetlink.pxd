"""Original destinations: what SO_ORIGINAL_DST is answered from.  Header-only.

A program behind REDIRECT or DNAT to the local host asks the kernel where its peer meant to go, and the kernel answers from its
own connection table: so a copy of each such connection is put there.  It is done before the verdict of the connection's first
packet leaves, in the same thread: the kernel handles a netlink request within send(), so the entry is there before anyone can
accept the connection.  It switches no tracking on (spec/nfqueue.md).  daemon/originals.py removes it with the flow.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from nfqfw._outbox cimport Outbox, Redirected
from nfqfw._packet cimport IPV4, be16, put16, put32
from nfqfw.queue._libc cimport MSG_DONTWAIT, recv, send


cdef enum:
    CT_NEW_MESSAGE = 0x100      # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW
    CT_DELETE_MESSAGE = 0x102   # IPCTNL_MSG_CT_DELETE
    CT_FLAGS = 0x401            # NLM_F_REQUEST | NLM_F_CREATE; no acknowledgement: only a failure is answered
    CT_SECONDS = 432000         # as long as an established connection may be silent; it is removed with the flow
    CT_STATUS = 14              # SEEN_REPLY, ASSURED, CONFIRMED
    NESTED = 0x8000
    TCP_STATE_ESTABLISHED = 3


cdef struct Originals:
    int fd                      # netlink socket connected to the kernel, -1 = none
    uint64_t made
    uint64_t failed
    int last_error              # errno of the last one that failed


cdef inline uint32_t put_attribute(uint8_t* at, uint32_t kind, const void* data, uint32_t n) noexcept nogil:
    """One attribute; returns its padded length.  Header in native order."""
    cdef uint32_t head = (n + 4) | (kind << 16)
    memcpy(at, &head, 4)
    memset(at + 4, 0, (n + 3) & ~<uint32_t>3)
    if n:
        memcpy(at + 4, data, n)
    return 4 + ((n + 3) & ~<uint32_t>3)


cdef inline uint32_t close_nest(uint8_t* at, uint32_t kind, uint32_t n) noexcept nogil:
    """Write the header of a nest at `at` that holds n bytes behind its 4; returns its length."""
    cdef uint32_t head = (n + 4) | ((kind | NESTED) << 16)
    memcpy(at, &head, 4)
    return n + 4


cdef inline uint32_t put_tuple(uint8_t* at, uint32_t kind, const Redirected* r, uint32_t direction) noexcept nogil:
    """CTA_TUPLE_ORIG (1) or CTA_TUPLE_REPLY (2)."""
    cdef uint32_t size = 4 if r.family == IPV4 else 16, first = 1 if r.family == IPV4 else 3, n
    cdef uint8_t port[2]
    n = put_attribute(at + 8, first, r.src[direction], size)
    n += put_attribute(at + 8 + n, first + 1, r.dst[direction], size)
    cdef uint32_t used = 4 + close_nest(at + 4, 1, n)
    n = put_attribute(at + used + 4, 1, &r.proto, 1)
    put16(port, r.sport[direction])
    n += put_attribute(at + used + 4 + n, 2, port, 2)
    put16(port, r.dport[direction])
    n += put_attribute(at + used + 4 + n, 3, port, 2)
    used += close_nest(at + used, 2, n)
    return close_nest(at, kind, used - 4)


cdef inline uint32_t put_original(uint8_t* at, const Redirected* r) noexcept nogil:
    """The whole message; at most 256 bytes."""
    cdef uint32_t used = 20, state
    cdef uint8_t word[4]
    cdef uint8_t value = TCP_STATE_ESTABLISHED
    memset(at, 0, 20)
    at[16] = r.family
    used += put_tuple(at + used, 1, r, 0)
    used += put_tuple(at + used, 2, r, 1)
    put32(word, CT_STATUS)
    used += put_attribute(at + used, 3, word, 4)
    put32(word, CT_SECONDS)
    used += put_attribute(at + used, 7, word, 4)
    if r.proto == 6:                        # CTA_PROTOINFO { TCP { STATE } }
        state = put_attribute(at + used + 8, 1, &value, 1)
        state = close_nest(at + used + 4, 1, state)
        used += close_nest(at + used, 4, state)
    memcpy(at, &used, 4)
    state = CT_NEW_MESSAGE | (<uint32_t>CT_FLAGS << 16)
    memcpy(at + 4, &state, 4)
    return used


cdef inline uint32_t put_removal(uint8_t* at, const Redirected* r) noexcept nogil:
    """The message that deletes whatever entry answers to the same reply tuple."""
    cdef uint32_t used = 20, word
    memset(at, 0, 20)
    at[16] = r.family
    used += put_tuple(at + used, 2, r, 1)
    memcpy(at, &used, 4)
    word = CT_DELETE_MESSAGE | (1 << 16)
    memcpy(at + 4, &word, 4)
    return used


cdef inline int32_t ask(Originals* o, const uint8_t* message, uint32_t n) noexcept nogil:
    """Send one message.  0, or the errno of the kernel's refusal."""
    cdef uint8_t answer[512]
    cdef int32_t error = 0
    if send(o.fd, message, n, 0) < 0:
        return 5                            # EIO
    if recv(o.fd, answer, sizeof(answer), MSG_DONTWAIT) >= 20:
        memcpy(&error, answer + 16, 4)
    return -error


cdef inline void send_originals(Originals* o, Outbox* box) noexcept nogil:
    """Make the entries that wait in the outbox, and empty it of them."""
    cdef uint8_t message[256]
    cdef uint32_t i
    cdef int32_t error
    for i in range(box.n_redirected):
        error = 9                           # EBADF
        if o.fd >= 0:
            error = ask(o, message, put_original(message, &box.redirected[i]))
            if error:                       # the entry of an older connection between the same ends: it ended, this one counts
                ask(o, message, put_removal(message, &box.redirected[i]))
                error = ask(o, message, put_original(message, &box.redirected[i]))
        if error:
            o.failed += 1
            o.last_error = error
        else:
            o.made += 1
    box.n_redirected = 0
