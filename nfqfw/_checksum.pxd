"""Internet checksum: sums, incremental updates (RFC 1071, RFC 1624).  Header-only.

Sums are 32-bit accumulators of 16-bit big-endian words; `fold` makes the 16-bit one's complement result.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy


cdef inline uint32_t sum_bytes(const uint8_t* data, uint32_t n, uint32_t start) noexcept nogil:
    """Add n bytes to the running sum.  An odd last byte counts as the high half of a word."""
    cdef uint64_t total = start
    cdef uint32_t i = 0
    cdef uint64_t word
    cdef uint64_t native = 0
    while i + 8 <= n:                       # sum in machine order with end-around carry, swap once at the end
        memcpy(&word, data + i, 8)
        native += word
        if native < word:
            native += 1
        i += 8
    native = (native & <uint64_t>0xffffffffU) + (native >> 32)
    native = (native & <uint64_t>0xffffffffU) + (native >> 32)
    native = (native & 0xffff) + (native >> 16)
    native = (native & 0xffff) + (native >> 16)
    total += ((native & 0xff) << 8) | (native >> 8)
    while i + 2 <= n:
        total += (<uint32_t>data[i] << 8) | data[i + 1]
        i += 2
    if i < n:
        total += <uint32_t>data[i] << 8
    total = (total & <uint64_t>0xffffffffU) + (total >> 32)
    return <uint32_t>((total & <uint64_t>0xffffffffU) + (total >> 32))


cdef inline uint16_t fold(uint32_t total) noexcept nogil:
    """One's complement of the folded sum: the value that goes into the header."""
    total = (total & 0xffff) + (total >> 16)
    total = (total & 0xffff) + (total >> 16)
    return <uint16_t>(~total & 0xffff)


cdef inline uint32_t sum_pseudo(const uint8_t* src, const uint8_t* dst, uint32_t address_bytes,
                                uint32_t length, uint32_t proto) noexcept nogil:
    """Pseudo-header sum for IPv4 (RFC 793) and IPv6 (RFC 8200 8.1)."""
    cdef uint32_t total = sum_bytes(src, address_bytes, 0)
    total = sum_bytes(dst, address_bytes, total)
    total = (total & 0xffff) + (total >> 16)
    return total + (length >> 16) + (length & 0xffff) + proto


cdef inline uint16_t update16(uint16_t checksum, uint16_t old, uint16_t new) noexcept nogil:
    """Checksum after one covered 16-bit word changed from old to new.  RFC 1624 eq. 3; UDP callers send 0xffff for 0."""
    cdef uint32_t total = (~checksum & 0xffff) + (~old & 0xffff) + new
    total = (total & 0xffff) + (total >> 16)
    total = (total & 0xffff) + (total >> 16)
    return <uint16_t>(~total & 0xffff)


cdef inline uint16_t update32(uint16_t checksum, uint32_t old, uint32_t new) noexcept nogil:
    return update16(update16(checksum, <uint16_t>(old >> 16), <uint16_t>(new >> 16)),
                    <uint16_t>(old & 0xffff), <uint16_t>(new & 0xffff))
