"""Ring: a bounded queue of byte records between one writing thread and one reading thread.  Header-only.

Overview.  Queue threads never wait and never take the GIL; what they have to tell (log lines, trace records, connection
events) goes into a ring that another thread drains.  A record that does not fit is dropped and counted, and the reader
learns the count.  Several writers of one ring hold a lock of their own around ring_put (see `_conntrack`).

Shape.  `head` and `tail` count bytes for ever; position = count & (size - 1).  A record is a 4-byte length and its bytes,
padded to 8, and never wraps: a filler (length 0xffffffff) takes the rest of the buffer instead, so a reader can use a
record in place.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from nfqfw._atomic cimport add64, load64, store64


cdef enum:
    RING_FILLER = 0xffffffff


cdef struct Ring:
    uint8_t* data               # `size` bytes, 8-byte aligned
    uint64_t size               # power of two
    uint64_t head               # bytes written, ever; only the writer stores it
    uint64_t records            # records written, ever
    uint64_t dropped            # records that did not fit, ever
    uint64_t pad[3]             # the reader's word on a cache line of its own
    uint64_t tail               # bytes read, ever; only the reader stores it


cdef inline bint ring_init(Ring* r, uint64_t size) noexcept nogil:
    """Make an empty ring of `size` bytes (rounded up to a power of two, at least 4096).  False: no memory."""
    cdef uint64_t rounded = 4096
    if size >> 40:                          # no memory can be had; and the rounding must end
        return False
    while rounded < size:
        rounded <<= 1
    memset(r, 0, sizeof(Ring))
    r.data = <uint8_t*>malloc(rounded)
    if r.data == NULL:
        return False
    r.size = rounded
    return True


cdef inline void ring_free(Ring* r) noexcept nogil:
    free(r.data)
    r.data = NULL
    r.size = 0


cdef inline uint8_t* ring_reserve(Ring* r, uint32_t length) noexcept nogil:
    """Room for one record of `length` bytes, to be filled and then given to ring_commit; NULL = full, counted."""
    cdef uint64_t need = 8 + ((<uint64_t>length + 7) & ~<uint64_t>7)
    cdef uint64_t at, rest, used
    cdef uint32_t filler = RING_FILLER
    if r.data == NULL:
        return NULL
    used = r.head - load64(&r.tail)
    at = r.head & (r.size - 1)
    rest = r.size - at
    if need > (r.size >> 1) or used + need + (rest if rest < need else 0) > r.size:
        add64(&r.dropped, 1)
        return NULL
    if rest < need:
        memcpy(r.data + at, &filler, 4)
        store64(&r.head, r.head + rest)
        at = 0
    return r.data + at + 8


cdef inline void ring_commit(Ring* r, uint32_t length) noexcept nogil:
    """Publish the record that ring_reserve(length) made room for."""
    cdef uint64_t at = r.head & (r.size - 1)
    memcpy(r.data + at, &length, 4)
    r.records += 1
    store64(&r.head, r.head + 8 + ((<uint64_t>length + 7) & ~<uint64_t>7))


cdef inline bint ring_put(Ring* r, const void* record, uint32_t length) noexcept nogil:
    """Copy one record in.  False: the ring is full, the record is dropped and counted."""
    cdef uint8_t* room = ring_reserve(r, length)
    if room == NULL:
        return False
    memcpy(room, record, length)
    ring_commit(r, length)
    return True


cdef inline const uint8_t* ring_peek(Ring* r, uint32_t* length) noexcept nogil:
    """The oldest record, in place until ring_pop; NULL = empty."""
    cdef uint64_t at
    while True:
        if r.data == NULL or load64(&r.head) == r.tail:
            return NULL
        at = r.tail & (r.size - 1)
        memcpy(length, r.data + at, 4)
        if length[0] != RING_FILLER:
            return r.data + at + 8
        store64(&r.tail, r.tail + (r.size - at))


cdef inline void ring_pop(Ring* r, uint32_t length) noexcept nogil:
    """Give the room of the record that ring_peek returned back to the writer."""
    store64(&r.tail, r.tail + 8 + ((<uint64_t>length + 7) & ~<uint64_t>7))


cdef inline list ring_drain(Ring* r, uint32_t limit):
    """Up to `limit` records as bytes, oldest first.  The reading thread's Python door."""
    cdef list out = []
    cdef uint32_t length = 0
    cdef const uint8_t* record
    while limit:
        record = ring_peek(r, &length)
        if record == NULL:
            break
        out.append((<const char*>record)[:length])
        ring_pop(r, length)
        limit -= 1
    return out
