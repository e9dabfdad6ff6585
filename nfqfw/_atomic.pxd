"""Atomic loads, stores and a spin lock, as C that every module may inline.  Header-only.

Locks live in process memory, never in the Arena: a killed process takes them with it.  A lock is one 32-bit word, 0 = free.
The holder does at most a few hundred nanoseconds of work; a waiter spins, then gives its time slice away, so a preempted
holder costs a yield and not a second.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from * nogil:
    """
    #ifndef NFQFW_ATOMIC
    #define NFQFW_ATOMIC
    #include <stdint.h>
    #include <sched.h>
    static inline uint32_t nfqfw_load32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline uint64_t nfqfw_load64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline uint16_t nfqfw_load16(const uint16_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline void nfqfw_store32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline void nfqfw_store64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline void nfqfw_store16(uint16_t *p, uint16_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline uint32_t nfqfw_add32(uint32_t *p, uint32_t v) { return __atomic_add_fetch(p, v, __ATOMIC_RELAXED); }
    static inline uint64_t nfqfw_add64(uint64_t *p, uint64_t v) { return __atomic_add_fetch(p, v, __ATOMIC_RELAXED); }
    static inline uint32_t nfqfw_or32(uint32_t *p, uint32_t v) { return __atomic_fetch_or(p, v, __ATOMIC_RELEASE); }
    static inline uint8_t nfqfw_or8(uint8_t *p, uint8_t v) { return __atomic_fetch_or(p, v, __ATOMIC_RELEASE); }
    static inline uint8_t nfqfw_and8(uint8_t *p, uint8_t v) { return __atomic_fetch_and(p, v, __ATOMIC_RELEASE); }
    static inline uint16_t nfqfw_or16(uint16_t *p, uint16_t v) { return __atomic_fetch_or(p, v, __ATOMIC_RELEASE); }
    static inline void nfqfw_fence(void) { __atomic_thread_fence(__ATOMIC_ACQ_REL); }
    static inline void nfqfw_prefetch(const void *p) { __builtin_prefetch(p, 1, 3); }
    static inline void nfqfw_prefetch_read(const void *p) { __builtin_prefetch(p, 0, 3); }
    static inline void nfqfw_lock(uint32_t *lock) {
        unsigned spins = 0;
        while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE)) {
            while (__atomic_load_n(lock, __ATOMIC_RELAXED)) {
                if (++spins & 127) {
    #if defined(__x86_64__)
                    __builtin_ia32_pause();
    #elif defined(__aarch64__)
                    __asm__ volatile("yield");
    #endif
                } else {
                    sched_yield();
                }
            }
        }
    }
    #if defined(__SSE2__)
    #include <emmintrin.h>
    static inline uint32_t nfqfw_match10(const uint16_t *tags, uint16_t tag) {
        __m128i eight = _mm_cmpeq_epi16(_mm_loadu_si128((const __m128i *)tags), _mm_set1_epi16((short)tag));
        uint32_t mask = (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(eight, _mm_setzero_si128()));
        return mask | (uint32_t)(tags[8] == tag) << 8 | (uint32_t)(tags[9] == tag) << 9;
    }
    #else
    static inline uint32_t nfqfw_match10(const uint16_t *tags, uint16_t tag) {
        uint32_t mask = 0;
        for (int k = 0; k < 10; k++) mask |= (uint32_t)(tags[k] == tag) << k;
        return mask;
    }
    #endif
    static inline uint32_t nfqfw_lowest(uint32_t mask) { return (uint32_t)__builtin_ctz(mask); }
    static inline void nfqfw_unlock(uint32_t *lock) { __atomic_store_n(lock, 0, __ATOMIC_RELEASE); }
    #endif
    """
    uint32_t load32 "nfqfw_load32"(const uint32_t* at) noexcept
    uint64_t load64 "nfqfw_load64"(const uint64_t* at) noexcept
    uint16_t load16 "nfqfw_load16"(const uint16_t* at) noexcept
    void store32 "nfqfw_store32"(uint32_t* at, uint32_t value) noexcept
    void store64 "nfqfw_store64"(uint64_t* at, uint64_t value) noexcept
    void store16 "nfqfw_store16"(uint16_t* at, uint16_t value) noexcept
    uint32_t add32 "nfqfw_add32"(uint32_t* at, uint32_t value) noexcept     # returns the new value
    uint64_t add64 "nfqfw_add64"(uint64_t* at, uint64_t value) noexcept
    uint32_t or32 "nfqfw_or32"(uint32_t* at, uint32_t value) noexcept       # returns the old value
    uint16_t or16 "nfqfw_or16"(uint16_t* at, uint16_t value) noexcept
    uint8_t or8 "nfqfw_or8"(uint8_t* at, uint8_t value) noexcept
    uint8_t and8 "nfqfw_and8"(uint8_t* at, uint8_t value) noexcept
    void fence "nfqfw_fence"() noexcept                                     # stores before it stay before those after it
    void prefetch "nfqfw_prefetch"(const void* at) noexcept                 # to write there, or both
    void prefetch_read "nfqfw_prefetch_read"(const void* at) noexcept
    uint32_t match10 "nfqfw_match10"(const uint16_t* tags, uint16_t tag) noexcept       # bit k: tags[k] == tag
    uint32_t lowest "nfqfw_lowest"(uint32_t mask) noexcept                  # number of the lowest bit; mask is not 0
    void lock "nfqfw_lock"(uint32_t* word) noexcept
    void unlock "nfqfw_unlock"(uint32_t* word) noexcept
    void give_way "sched_yield"() noexcept                                  # let another thread have this CPU
