"""CRC32c (Castagnoli), the checksum of SCTP: RFC 9260 appendix A.  Header-only; a table of 256 words made on first use."""

from libc.stdint cimport uint8_t, uint32_t

cdef extern from * nogil:
    """
    #ifndef NFQFW_CRC32C
    #define NFQFW_CRC32C
    #include <stdint.h>
    static uint32_t nfqfw_crc32c_table[256];
    static int nfqfw_crc32c_ready;
    static uint32_t nfqfw_crc32c(const uint8_t *data, uint32_t n) {
        uint32_t crc = 0xffffffffu, i, bit, word;
        if (!__atomic_load_n(&nfqfw_crc32c_ready, __ATOMIC_ACQUIRE)) {   /* two threads may fill it: with the same values */
            for (i = 0; i < 256; i++) {
                word = i;
                for (bit = 0; bit < 8; bit++)
                    word = word & 1 ? (word >> 1) ^ 0x82f63b78u : word >> 1;
                nfqfw_crc32c_table[i] = word;
            }
            __atomic_store_n(&nfqfw_crc32c_ready, 1, __ATOMIC_RELEASE);
        }
        for (i = 0; i < n; i++)
            crc = (crc >> 8) ^ nfqfw_crc32c_table[(crc ^ data[i]) & 0xff];
        return ~crc;
    }
    #endif
    """
    uint32_t crc32c "nfqfw_crc32c"(const uint8_t* data, uint32_t n) noexcept
