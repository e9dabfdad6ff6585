"""Arena: a sparse memfd with the flow arrays in it, so that a new process can take the flows over.

Overview.  The file is as large as the largest table (CONNTRACK_SLOTS_MAX entries) and is never remapped; pages that no
flow has touched cost nothing.  Everything in it is an index or an offset.  Indexes (hash buckets, free list) and locks are
not in it: a new process makes its own by a scan.

Life-cycle.  `Arena.create()` makes the memory; `Arena.attach(fd)` maps one that another process made (anywhere in the
address space) and refuses what it does not understand.
"""

import os
import secrets
import time

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from nfqfw._conn cimport ConnAcct, ConnAddr6, ConnCold, ConnHot, ConnLabels, ConnTable, ConnWindow, Expect, TimeoutPolicy

from nfqfw.limits import EXPECT_SLOTS, TIMEOUT_POLICIES

cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void* address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void* address, size_t length)
    int madvise(void* address, size_t length, int advice)
    int PROT_READ, PROT_WRITE, MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, PROT_NONE, MADV_HUGEPAGE
    void* MAP_FAILED


cdef enum:
    MADV_COLLAPSE = 25                  # Linux 6.1
    HUGE = 1 << 21

PAGE = HUGE                         # sections start on huge page borders
ELEMENTS = (sizeof(ConnHot), sizeof(ConnWindow), sizeof(ConnCold), sizeof(ConnAddr6), sizeof(ConnAcct), sizeof(ConnLabels),
            sizeof(Expect), sizeof(TimeoutPolicy))
FIXED = {SECTION_EXPECT: EXPECT_SLOTS, SECTION_POLICY: TIMEOUT_POLICIES}        # sections whose length the flows do not decide


class ArenaError(Exception):
    """The memory is not an Arena of this version, or cannot be mapped."""


cdef class Arena:
    """The flow arrays in a memfd.  Close the fd and drop the object to give the memory back."""

    def __cinit__(self):
        self.fd = -1
        self.base = NULL
        self.header = NULL
        self.size = 0

    def __dealloc__(self):
        if self.base != NULL:
            munmap(self.base, self.size)
        if self.fd >= 0:
            os.close(self.fd)

    @staticmethod
    def create(slots):
        """A new, empty Arena with room for `slots` - 1 flows."""
        offsets, at = [], PAGE
        counts = [FIXED.get(section, slots) for section in range(SECTIONS)]
        for element, count in zip(ELEMENTS, counts, strict=True):
            offsets.append(at)
            at += -(-element * count // PAGE) * PAGE
        cdef Arena arena = Arena()
        arena.fd = os.memfd_create("nfqfw-flows", os.MFD_CLOEXEC)
        os.ftruncate(arena.fd, at)
        arena._map(at)
        cdef ArenaHeader* h = arena.header
        h.version = ARENA_VERSION
        h.slots = slots
        h.high = h.expect_high = h.policy_high = 1
        h.key[0] = secrets.randbits(64)
        h.key[1] = secrets.randbits(64)
        h.size = at
        h.boot_wall_ns = time.time_ns() - time.monotonic_ns()
        for i in range(SECTIONS):
            h.offset[i] = offsets[i]
            h.element[i] = ELEMENTS[i]
            h.count[i] = counts[i]
        h.magic = ARENA_MAGIC
        return arena

    @staticmethod
    def attach(fd):
        """Map the Arena that another process made; takes a duplicate of fd.  ArenaError if it is not one of this version."""
        size = os.fstat(fd).st_size
        if size < PAGE:
            raise ArenaError("not an Arena: too small")
        cdef Arena arena = Arena()
        arena.fd = os.dup(fd)
        arena._map(size)
        arena._validate()
        return arena

    def _map(self, size):
        """Map the whole file at an address that huge pages can have."""
        cdef size_t length = size
        cdef uint8_t* room = <uint8_t*>mmap(NULL, length + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        cdef uint8_t* wanted
        cdef void* at
        if room == <uint8_t*>MAP_FAILED:
            raise ArenaError("cannot map the Arena")
        wanted = <uint8_t*>((<uint64_t>room + HUGE - 1) & ~<uint64_t>(HUGE - 1))
        at = mmap(wanted, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, self.fd, 0)
        if wanted != room:
            munmap(room, wanted - room)
        if room + HUGE != wanted:
            munmap(wanted + length, room + HUGE - wanted)
        if at == MAP_FAILED:
            munmap(wanted, length)
            raise ArenaError("cannot map the Arena")
        self.base = <uint8_t*>at
        self.header = <ArenaHeader*>at
        self.size = size
        madvise(at, size, MADV_HUGEPAGE)            # a hint: refused where shmem huge pages are off

    def _validate(self):
        cdef ArenaHeader* h = self.header
        if h.magic != ARENA_MAGIC or h.version != ARENA_VERSION or h.size != self.size:
            raise ArenaError("not an Arena of this version")
        if (not 1 <= h.high <= h.slots or not 1 <= h.expect_high <= h.count[SECTION_EXPECT]
                or not 1 <= h.policy_high <= h.count[SECTION_POLICY]):
            raise ArenaError("the Arena's marks do not hold together")
        for i in range(SECTIONS):
            if h.element[i] != ELEMENTS[i] or h.offset[i] + h.element[i] * <uint64_t>h.count[i] > self.size:
                raise ArenaError("the Arena was laid out by another build")
            if h.count[i] < (2 if i in FIXED else h.slots) or h.count[i] > FIXED.get(i, h.count[i]):
                raise ArenaError("the Arena's sections do not hold together")

    def tend(self):
        """Make huge pages of blocks that are full of flows; True if it made one, and there may be more.

        One block of 2 MiB a call: the kernel copies it, which takes it a millisecond or so.  Small pages cost a lookup among a
        million flows a page walk per line, and a memfd has huge pages by itself only where the host says so (shmem_enabled).
        Where the kernel does not join pages nothing happens.
        """
        return self._join(SECTION_HOT) or self._join(SECTION_WINDOW)

    cdef bint _join(self, uint32_t section) noexcept:
        cdef uint64_t block = self.huge[section]
        if (block + 1) * HUGE > <uint64_t>self.header.high * self.header.element[section]:
            return False
        self.huge[section] += 1
        with nogil:                             # queue threads run on; one that wants this block meanwhile waits for it
            madvise(self.base + self.header.offset[section] + block * HUGE, HUGE, MADV_COLLAPSE)
        return True

    cdef void view(self, ConnTable* table) noexcept:
        """Fill in where this process sees the arrays."""
        cdef ArenaHeader* h = self.header
        memset(table, 0, sizeof(ConnTable))
        table.hot = <ConnHot*>(self.base + h.offset[SECTION_HOT])
        table.window = <ConnWindow*>(self.base + h.offset[SECTION_WINDOW])
        table.cold = <ConnCold*>(self.base + h.offset[SECTION_COLD])
        table.addr6 = <ConnAddr6*>(self.base + h.offset[SECTION_ADDR6])
        table.acct = <ConnAcct*>(self.base + h.offset[SECTION_ACCT])
        table.labels = <ConnLabels*>(self.base + h.offset[SECTION_LABELS])
        table.expect = <Expect*>(self.base + h.offset[SECTION_EXPECT])
        table.expect_slots = h.count[SECTION_EXPECT]
        table.policies = <TimeoutPolicy*>(self.base + h.offset[SECTION_POLICY])
        table.policy_slots = h.count[SECTION_POLICY]
        table.capacity = h.slots

    @property
    def slots(self):
        return self.header.slots
