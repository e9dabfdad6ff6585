"""Arena: a sparse memfd with the flow arrays in it, so that a new process can take the flows over.

Overview.  The file is as large as the largest table (CONNTRACK_SLOTS_MAX entries) and is never remapped; pages that no
flow has touched cost nothing.  Everything in it is an index or an offset.  Indexes (hash buckets, free list) and locks are
not in it: a new process makes its own by a scan.

Life-cycle.  `Arena.create()` makes the memory; `Arena.attach(fd)` maps one that another process made (anywhere in the
address space) and refuses what it does not understand.  The file is sealed against shrinking: whoever else has the
descriptor cannot take pages away from under a queue thread (SIGBUS).
"""

import errno
import fcntl

import os
import secrets
import time

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.unistd cimport close

from nfqfw._conn cimport ConnAcct, ConnAddr6, ConnCold, ConnHot, ConnLabels, ConnTable, ConnWindow, Expect, TimeoutPolicy

from nfqfw.limits import CONNTRACK_SLOTS_MAX, EXPECT_SLOTS, TIMEOUT_POLICIES

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
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
ELEMENTS = (sizeof(ConnHot), sizeof(ConnWindow), sizeof(ConnCold), sizeof(ConnAddr6), sizeof(ConnAcct), sizeof(ConnLabels),
            sizeof(Expect), sizeof(TimeoutPolicy))
FIXED = {SECTION_EXPECT: EXPECT_SLOTS, SECTION_POLICY: TIMEOUT_POLICIES}        # sections whose length the flows do not decide


class ArenaError(Exception):
    """The memory is not an Arena of this version, or cannot be mapped."""


def layout(counts):
    """(offset, elements) of each Section, and the size of the whole."""
    places, at = [], PAGE
    for element, count in zip(ELEMENTS, counts, strict=True):
        places.append((at, count))
        at += -(-element * count // PAGE) * PAGE
    return places, at


cdef class Arena:
    """The flow arrays in a memfd.  Close the fd and drop the object to give the memory back.  Made by `create` or `attach`."""

    def __cinit__(self):
        self.fd = -1
        self.base = NULL
        self.header = NULL
        self.size = 0

    def __dealloc__(self):
        if self.base != NULL:
            munmap(self.base, self.size)
        if self.fd >= 0:
            close(self.fd)                  # of C: when the interpreter ends, modules may be gone before the last table

    @staticmethod
    def create(slots):
        """A new, empty Arena with room for `slots` - 1 flows.  ValueError: none, or more than limits.CONNTRACK_SLOTS_MAX."""
        if not 2 <= slots <= CONNTRACK_SLOTS_MAX:
            raise ValueError(f"an Arena of {slots} entries: not within 2 to {CONNTRACK_SLOTS_MAX}")
        places, size = layout([FIXED.get(section, slots) for section in range(SECTIONS)])
        cdef Arena arena = Arena()
        arena.fd = os.memfd_create("nfqfw-flows", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(arena.fd, size)
        fcntl.fcntl(arena.fd, fcntl.F_ADD_SEALS, SEALS)
        arena._map(size)
        cdef ArenaHeader* h = arena.header
        h.version = ARENA_VERSION
        h.slots = slots
        h.high = h.expect_high = h.policy_high = 1
        h.key[0] = secrets.randbits(64)
        h.key[1] = secrets.randbits(64)
        h.size = size
        h.boot_wall_ns = time.time_ns() - time.monotonic_ns()
        for i, (offset, count) in enumerate(places):
            h.offset[i] = offset
            h.element[i] = ELEMENTS[i]
            h.count[i] = count
        h.magic = ARENA_MAGIC
        return arena

    @staticmethod
    def attach(fd):
        """Map the Arena that another process made; takes a duplicate of fd.

        ArenaError: it is none of this version, or somebody could still shrink it.  OSError: no descriptor.
        """
        size = os.fstat(fd).st_size
        if size < PAGE:
            raise ArenaError("not an Arena: too small")
        if not seals_of(fd) & fcntl.F_SEAL_SHRINK:
            raise ArenaError("not an Arena: it is not sealed against shrinking")
        cdef Arena arena = Arena()
        arena.fd = os.dup(fd)
        arena._map(size)
        arena._validate()
        return arena

    cdef _map(self, uint64_t size):
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

    cdef _validate(self):
        cdef ArenaHeader* h = self.header
        slots = h.slots
        counts = [h.count[i] if i in FIXED else slots for i in range(SECTIONS)]
        if h.magic != ARENA_MAGIC or h.version != ARENA_VERSION or h.size != self.size:
            raise ArenaError("not an Arena of this version")
        if not 2 <= slots <= CONNTRACK_SLOTS_MAX or not all(2 <= counts[section] <= most for section, most in FIXED.items()):
            raise ArenaError("the Arena's sections do not hold together")
        if (not 1 <= h.high <= slots or not 1 <= h.expect_high <= counts[SECTION_EXPECT]
                or not 1 <= h.policy_high <= counts[SECTION_POLICY]):
            raise ArenaError("the Arena's marks do not hold together")
        places, size = layout(counts)
        for i, (offset, count) in enumerate(places):
            if h.element[i] != ELEMENTS[i] or h.offset[i] != offset or h.count[i] != count:
                raise ArenaError("the Arena was laid out by another build")
        if size != self.size:
            raise ArenaError("the Arena is not as long as its sections")

    def tend(self):
        """Make huge pages of blocks that are full of flows; True if it made one, and there may be more.

        One block of 2 MiB a call: the kernel copies it, which takes it a millisecond or so.  Small pages cost a lookup among a
        million flows a page walk per line, and a memfd has huge pages by itself only where the host says so (shmem_enabled).
        Where the kernel does not join pages nothing happens.
        """
        return self.header != NULL and (self._join(SECTION_HOT) or self._join(SECTION_WINDOW))

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
        """Entries that it has room for, and number 0; 0 = made by neither `create` nor `attach`."""
        return self.header.slots if self.header != NULL else 0


def seals_of(fd):
    """Seals of a memfd; 0 for what can have none."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return 0
        raise
