"""Arena: the memory in which flows outlive the process, laid out by offsets.  See `_arena.pyx`."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from nfqfw._conn cimport ConnTable


cdef enum:
    ARENA_MAGIC = 0x6e667141    # 'nfqA'
    ARENA_VERSION = 3


cdef enum:                      # sections: one parallel array each
    SECTION_HOT = 0
    SECTION_WINDOW = 1
    SECTION_COLD = 2
    SECTION_ADDR6 = 3
    SECTION_ACCT = 4
    SECTION_LABELS = 5
    SECTION_EXPECT = 6
    SECTION_POLICY = 7
    SECTIONS = 8


cdef struct ArenaHeader:        # first page of the memory
    uint32_t magic
    uint32_t version
    uint32_t slots              # entries that the arrays have room for; number 0 is never used
    uint32_t high               # entries 1 .. high-1 have been used at some time
    uint64_t key[2]             # key of the hash, random per Arena
    uint64_t size               # bytes of the whole memory
    uint64_t offset[8]          # of each Section
    uint32_t element[8]         # bytes of one element: a reader of another build refuses what it does not know
    uint32_t count[8]           # elements of each Section
    uint32_t expect_high        # expectations 1 .. expect_high-1 have been used at some time
    uint32_t policy_high        # rows of time-out policies 1 .. policy_high-1 have been used at some time
    uint64_t boot_wall_ns       # wall clock less monotonic clock at creation: ticks mean the same to every process of this boot


cdef class Arena:
    cdef readonly int fd
    cdef uint8_t* base
    cdef uint64_t huge[8]       # per Section: blocks of 2 MiB that are huge pages already, or that the kernel would not join
    cdef ArenaHeader* header
    cdef readonly uint64_t size

    cdef _map(self, uint64_t size)
    cdef _validate(self)
    cdef bint _join(self, uint32_t section) noexcept
    cdef void view(self, ConnTable* table) noexcept
