"""Loop: the memory of one queue thread.  See _nfnetlink.pyx."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from nfqfw._outbox cimport EngineDoor
from nfqfw._packet cimport Packet
from nfqfw.queue._libc cimport iovec, mmsghdr
from nfqfw.queue._ctnetlink cimport Originals
from nfqfw.queue._replies cimport Replies
from nfqfw.queue._verdicts cimport Verdicts


cdef enum:
    BATCH = 64                  # limits.BATCH_PACKETS
    ERRNO_COUNT = 134           # EHWPOISON 133 is the highest errno of Linux
    REASON_SLOTS = 64           # at least REASON_COUNT


cdef struct Loop:
    int fd                      # netlink socket, -1 = closed
    int event                   # eventfd: stop and wake-ups
    uint16_t queue              # queue number
    uint32_t index              # Packet.queue
    uint32_t stop               # 1 = leave the loop
    uint32_t blocked            # 1 = in poll: holds no Program
    uint64_t epoch              # batch boundaries passed
    uint32_t batching           # 1 = one message for several packets is allowed at all
    uint32_t expected           # id of the next packet: a gap was dropped because our socket was full
    # counted since open
    uint64_t received           # packets
    uint64_t bytes              # their lengths in the kernel
    uint64_t batches
    uint64_t polls              # times the thread blocked
    uint64_t held
    uint64_t released
    uint64_t enobufs            # receive calls that returned ENOBUFS
    uint64_t user_dropped       # gaps in ids
    uint64_t malformed          # datagrams or messages we could not read
    uint64_t outbox_full
    uint64_t errors[134]        # NLMSG_ERROR in the stream, by errno
    uint64_t reasons[64]        # drops of ours, by Reason
    EngineDoor door
    Verdicts verdicts
    Replies replies
    Originals originals
    # receive buffers: datagram i lies at buffers + i * stride
    uint8_t* buffers
    uint32_t stride
    uint32_t n                  # packets gathered
    uint32_t told               # of these, how many have had their verdict sent in the middle of a batch
    uint32_t told_released      # the same of the outbox's released packets
    Packet packets[64]
    mmsghdr messages[64]
    iovec iov[64]


# Read n datagrams that lie in the buffers, judge their packets, send the verdicts: what follows a receive.
cdef void take(Loop* q, uint32_t n) noexcept nogil


cdef class Queue:
    cdef Loop* loop
    cdef object engine
    cdef readonly int number
    cdef readonly uint32_t copy_range
    cdef readonly bint gso
    cdef readonly bint uid_gid
    cdef readonly uint32_t length
    cdef readonly uint32_t receive_buffer
    cdef int running
    cdef void _let_go(self) noexcept
    cdef int _open_sockets(self) except -1
    cdef int _configure(self, uint8_t command) except -1
    cdef void _set_range(self, uint32_t copy_range) noexcept
