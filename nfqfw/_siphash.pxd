"""SipHash-1-3 over 64-bit words: the keyed hash of the flow table.  Header-only.

Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012); one compression and three finalisation rounds, as hash
tables of Rust and Python use it.  Input is whole words, so the length byte of the last block is the number of bytes.
"""

from libc.stdint cimport uint32_t, uint64_t


cdef inline uint64_t rotl64(uint64_t x, uint32_t n) noexcept nogil:
    return (x << n) | (x >> (64 - n))


cdef inline void sip_round(uint64_t* v) noexcept nogil:
    v[0] += v[1]
    v[2] += v[3]
    v[1] = rotl64(v[1], 13) ^ v[0]
    v[3] = rotl64(v[3], 16) ^ v[2]
    v[0] = rotl64(v[0], 32)
    v[2] += v[1]
    v[0] += v[3]
    v[1] = rotl64(v[1], 17) ^ v[2]
    v[3] = rotl64(v[3], 21) ^ v[0]
    v[2] = rotl64(v[2], 32)


cdef inline uint64_t sip13(const uint64_t* key, const uint64_t* words, uint32_t n) noexcept nogil:
    """Hash of n words under a 128-bit key."""
    cdef uint64_t v[4]
    cdef uint32_t i
    cdef uint64_t last = <uint64_t>(n * 8) << 56
    v[0] = key[0] ^ <uint64_t>0x736f6d6570736575ULL
    v[1] = key[1] ^ <uint64_t>0x646f72616e646f6dULL
    v[2] = key[0] ^ <uint64_t>0x6c7967656e657261ULL
    v[3] = key[1] ^ <uint64_t>0x7465646279746573ULL
    for i in range(n):
        v[3] ^= words[i]
        sip_round(v)
        v[0] ^= words[i]
    v[3] ^= last
    sip_round(v)
    v[0] ^= last
    v[2] ^= 0xff
    sip_round(v)
    sip_round(v)
    sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]
