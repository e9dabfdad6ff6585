"""Verdicts of a batch, gathered and sent in one `send`.  Header-only.

Overview.  Verdict messages are written behind one another into `headers`; a changed packet is sent from where it lies, as
an iovec of its own between two pieces of `headers`.  Kept order is what must 10 stands on: what is added first is in its
next crossing first.  `flush` sends what is there; `add_verdict` flushes by itself when the room ends, which only returned
payloads (up to 64 KiB each) and a burst of released fragments bring about.

One message for a run of packets that pass as they came (NFQNL_MSG_VERDICT_BATCH) saves a tenth of the CPU time.  It also passes
whatever lower id is still in the queue, so it is only used while nothing can be: `together` is for whoever gathers to say, and
the loop says it while it has read every id since the first, without a gap, and each has had its verdict (_nfnetlink.pyx).  A DROP
may go ahead of such a run, for nobody follows what is dropped; anything else stands where it was.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from nfqfw._packet cimport ACCEPT, DIRTY_MARK, DIRTY_PAYLOAD, DIRTY_PRIORITY, DROP, HELD, QUEUE
from nfqfw.queue._libc cimport (EAGAIN, EINTR, ENOBUFS, ENOMEM, MSG_DONTWAIT, iovec, msghdr, nanosleep, nfqfw_errno, sendmsg,
                                timespec)
from nfqfw.queue._messages cimport MSG_VERDICT, MSG_VERDICT_BATCH, PAYLOAD_MAX, VERDICT_BYTES, align4, put_verdict


cdef enum:
    VERDICTS_MAX = 256          # messages of one send
    SEND_BYTES = 1 << 20        # bytes of one send before it is cut in two; the socket's send buffer holds four of them
    SEND_TRIES = 200            # a send that fails for want of memory is tried again for so many milliseconds


cdef struct Verdicts:
    int fd
    uint16_t queue              # queue number
    bint together               # runs may share a message
    uint32_t run                # packets of the open run, the last ones gathered
    uint32_t run_id             # the last of them
    uint32_t n                  # messages gathered
    uint32_t packets            # that they are for
    uint32_t n_iov
    uint32_t used               # bytes of headers
    uint32_t piece              # where the open piece of headers begins
    uint64_t n_bytes            # bytes of the whole send
    # counted since the queue was opened
    uint64_t sends
    uint64_t runs               # messages for more than one packet
    uint64_t accepted
    uint64_t dropped
    uint64_t queued             # verdicts NF_QUEUE
    uint64_t payloads           # verdicts that returned a changed packet
    uint64_t cut                # payloads that could not be returned: the packet was dropped (reason `truncated`)
    uint64_t retries            # sends that had to be tried again
    uint64_t lost               # verdicts that could not be sent at all: their packets wait in the queue for ever
    iovec iov[516]              # 2 * (VERDICTS_MAX + 1) + 2: a run that is open when the room ends is one more
    uint8_t headers[257 * (52 + 4)]     # (VERDICTS_MAX + 1) * (VERDICT_BYTES + padding)


cdef inline void put_message(Verdicts* v, uint32_t id, uint8_t verdict, uint8_t dirty, uint32_t mark, uint32_t priority, uint32_t length,
                             uint16_t kind) noexcept nogil:
    cdef uint32_t written = put_verdict(v.headers + v.used, v.queue, id, verdict, dirty, mark, priority, length, kind)
    v.used += written
    v.n += 1
    v.n_bytes += written


cdef inline void close_run(Verdicts* v) noexcept nogil:
    """Write the message of the open run."""
    if v.run:
        v.runs += v.run > 1
        put_message(v, v.run_id, ACCEPT, 0, 0, 0, 0, MSG_VERDICT_BATCH if v.run > 1 else MSG_VERDICT)
    v.run = 0


cdef inline void flush(Verdicts* v) noexcept nogil:
    """Send all that is gathered; forgets it in any case."""
    cdef msghdr message
    cdef timespec pause
    cdef int tries = 0, error
    close_run(v)
    if v.n == 0:
        return
    if v.used > v.piece:
        v.iov[v.n_iov].iov_base = v.headers + v.piece
        v.iov[v.n_iov].iov_len = v.used - v.piece
        v.n_iov += 1
    memset(&message, 0, sizeof(message))
    message.msg_iov = v.iov
    message.msg_iovlen = v.n_iov
    while sendmsg(v.fd, &message, MSG_DONTWAIT) < 0:
        error = nfqfw_errno()
        tries += 1
        if tries > SEND_TRIES or (error != EAGAIN and error != EINTR and error != ENOBUFS and error != ENOMEM):
            v.lost += v.packets
            break
        v.retries += 1
        pause.tv_sec = 0
        pause.tv_nsec = 1000000
        nanosleep(&pause, NULL)
    v.sends += 1
    v.n = v.packets = 0
    v.n_iov = 0
    v.used = 0
    v.piece = 0
    v.n_bytes = 0


cdef inline bint add_verdict(Verdicts* v, uint32_t id, uint8_t verdict, uint8_t dirty, uint32_t mark, uint32_t priority,
                             uint8_t* data, uint32_t length, bint truncated) noexcept nogil:
    """Append one verdict; False when it had to become a DROP because its changed payload cannot be returned.

    A payload is impossible when the kernel gave us only a part of the packet, or when it is longer than an attribute
    holds.  A verdict QUEUE to ourselves would loop: it is a DROP.
    """
    cdef uint32_t pad
    cdef bint whole = True
    if dirty & DIRTY_PAYLOAD and verdict != DROP and (truncated or length > PAYLOAD_MAX or data == NULL):
        verdict = DROP
        whole = False
        v.cut += 1
    if verdict == QUEUE and v.queue == 0:
        verdict = DROP
    if verdict == DROP:
        dirty = 0
        v.dropped += 1
    elif verdict == QUEUE:
        v.queued += 1
    else:
        v.accepted += 1
    if v.together and verdict == ACCEPT and not dirty & (DIRTY_MARK | DIRTY_PRIORITY | DIRTY_PAYLOAD):
        v.run += 1
        v.run_id = id
        v.packets += 1
        return True
    if verdict != DROP:
        close_run(v)
    if v.n >= VERDICTS_MAX or v.n_bytes > SEND_BYTES:
        flush(v)
    put_message(v, id, verdict, dirty, mark, priority, length, MSG_VERDICT)
    v.packets += 1
    if dirty & DIRTY_PAYLOAD:
        v.payloads += 1
        v.iov[v.n_iov].iov_base = v.headers + v.piece
        v.iov[v.n_iov].iov_len = v.used - v.piece
        v.iov[v.n_iov + 1].iov_base = data
        v.iov[v.n_iov + 1].iov_len = length
        v.n_iov += 2
        v.piece = v.used
        pad = align4(length) - length
        memset(v.headers + v.used, 0, pad)
        v.used += pad
        v.n_bytes += length + pad
    return whole
