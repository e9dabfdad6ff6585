"""Jenkins' hash lookup3 over 32-bit words, with the start value the kernel gives it.  Header-only.

Bob Jenkins, "lookup3.c" (2006, public domain).  The kernel spreads the addresses of a NAT range by it, with a fixed seed, so
that equal input gives equal addresses on every machine: that makes range choices comparable with the kernel's.
"""

from libc.stdint cimport uint32_t, uint64_t


cdef enum:
    JHASH_START = 0xdeadbeef


cdef inline uint32_t rotl32(uint32_t x, uint32_t n) noexcept nogil:
    return (x << n) | (x >> (32 - n))


cdef inline uint32_t jhash_words(const uint32_t* words, uint32_t n, uint32_t seed) noexcept nogil:
    """Hash of n words as the machine reads them (jhash2 of the kernel)."""
    cdef uint32_t a = <uint32_t>JHASH_START + (n << 2) + seed
    cdef uint32_t b = a, c = a
    while n > 3:
        a += words[0]
        b += words[1]
        c += words[2]
        a -= c; a ^= rotl32(c, 4); c += b
        b -= a; b ^= rotl32(a, 6); a += c
        c -= b; c ^= rotl32(b, 8); b += a
        a -= c; a ^= rotl32(c, 16); c += b
        b -= a; b ^= rotl32(a, 19); a += c
        c -= b; c ^= rotl32(b, 4); b += a
        n -= 3
        words += 3
    if n == 0:
        return c
    if n == 3:
        c += words[2]
    if n >= 2:
        b += words[1]
    a += words[0]
    c ^= b; c -= rotl32(b, 14)
    a ^= c; a -= rotl32(c, 11)
    b ^= a; b -= rotl32(a, 25)
    c ^= b; c -= rotl32(b, 16)
    a ^= c; a -= rotl32(c, 4)
    b ^= a; b -= rotl32(a, 14)
    c ^= b; c -= rotl32(b, 24)
    return c


cdef inline uint32_t scale32(uint32_t value, uint32_t range_size) noexcept nogil:
    """value, spread over 0 .. 2^32-1, mapped to 0 .. range_size-1 without a division."""
    return <uint32_t>((<uint64_t>value * range_size) >> 32)
