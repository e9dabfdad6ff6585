"""A flow table's life in this process: made or taken over, its settings and counters, its end."""

import time

from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from nfqfw._arena cimport Arena
from nfqfw._ring cimport ring_free
from nfqfw.conntrack.index cimport index_free, index_make
from nfqfw.conntrack.table cimport T_ACCT, T_MAX, Conntrack, ExpectIndex, Index
from nfqfw.conntrack.takeover cimport move_entries, rebuild

from nfqfw.conntrack import sctp as sctp_table
from nfqfw.conntrack import tcp as tcp_table
from nfqfw.conntrack import tunables as tunable_table
from nfqfw.conntrack.stats import STATS
from nfqfw.ext import helpers
from nfqfw.limits import CONNTRACK_MAX, CONNTRACK_SLOTS_MAX


cdef class TableMemory:
    """What a ConntrackTable is before it has entries.

    limit: nf_conntrack_max.  slots: entries the memory is reserved for (sparse); the limit can be raised up to it.
    """

    def __cinit__(self, limit=CONNTRACK_MAX, slots=CONNTRACK_SLOTS_MAX, *, Arena arena=None, index_for=None):
        cdef Conntrack* t = <Conntrack*>calloc(1, sizeof(Conntrack))
        self.handle = t
        if t == NULL:
            raise MemoryError
        t.expect = <ExpectIndex*>calloc(1, sizeof(ExpectIndex))
        if t.expect == NULL:
            raise MemoryError
        tunable_table.check("nf_conntrack_max", limit)
        if arena is not None and arena.header == NULL:
            raise ValueError("an Arena without memory")
        self.arena = Arena.create(slots) if arena is None else arena
        self.arena.view(&t.table)
        t.header = self.arena.header
        memcpy(t.key, t.header.key, 16)
        t.wall_offset = t.header.boot_wall_ns
        t.index = index_make(index_for or max(limit, t.header.high))
        if t.index == NULL:
            raise MemoryError("no room for the index of the flow table")
        for slot, tunable in enumerate(tunable_table.TUNABLES):
            t.tunable[slot] = tunable.default
        t.tunable[T_MAX] = limit
        for slot, cell in enumerate(tcp_table.flat()):
            t.tcp_next[slot] = cell
        for slot, cell in enumerate(sctp_table.flat()):
            t.sctp_next[slot] = cell
        for slot, (row, word) in enumerate(zip(sctp_table.rows(), sctp_table.crc32c_table())):
            t.sctp_row[slot] = row
            t.crc32c[slot] = word
        for number, helper in enumerate(helpers.HELPERS, 1):
            for klass, policy in enumerate(helper.policies):
                t.helper_policy[number][klass][0] = policy.most
                t.helper_policy[number][klass][1] = policy.seconds
        for flags in range(256):
            t.tcp_valid[flags] = (flags & 0x37) in tcp_table.VALID_FLAGS

    def __dealloc__(self):
        cdef Index* older
        if self.handle == NULL:
            return
        while self.handle.index != NULL:
            older = self.handle.index.older
            index_free(self.handle.index)
            self.handle.index = older
        ring_free(&self.handle.events)
        free(self.handle.nat)
        free(self.handle.expect)
        free(self.handle)

    @classmethod
    def attach(cls, fd, limit=CONNTRACK_MAX):
        """Take over the flows in the memory behind fd (see `arena.fd`): the process that wrote it must be gone."""
        table = cls(limit, arena=Arena.attach(fd))
        (<TableMemory>table).take_over()
        return table

    cdef take_over(self):
        cdef Conntrack* t = self.handle
        t.now_ns = time.monotonic_ns()
        with nogil:
            rebuild(t)

    # settings and counters

    def get(self, name):
        """Value of a nf_conntrack_* setting; ValueError if there is no such one."""
        if name == "nf_conntrack_count":
            return self.count
        if name == "nf_conntrack_buckets":
            return self.handle.index.n_buckets
        if name not in tunable_table.SLOT:
            raise ValueError(f"{name}: no such setting")
        return self.handle.tunable[tunable_table.SLOT[name]]

    def set(self, name, value):
        """Change a setting; ValueError: unknown, read-only or out of range."""
        if name in ("nf_conntrack_count", "nf_conntrack_buckets"):
            raise ValueError(f"{name}: read-only")
        slot = tunable_table.check(name, value)
        if name == "nf_conntrack_max" and value >= self.handle.header.slots:
            raise ValueError(f"{name}: {value} is more than this table has room for ({self.handle.header.slots - 1})")
        if name == "nf_conntrack_expect_max" and value >= self.handle.table.expect_slots:
            raise ValueError(f"{name}: {value} is more than this table has room for ({self.handle.table.expect_slots - 1})")
        if name == "nf_conntrack_max" and value > 5 * self.handle.index.n_buckets:
            self._enlarge(value)
        self.handle.tunable[slot] = value
        self.handle.table.acct_on = self.handle.tunable[T_ACCT]

    def tunables(self):
        """Every setting as {name: value}, read-only ones included."""
        names = [tunable.name for tunable in tunable_table.TUNABLES if tunable.name.startswith("nf_")]
        return {name: self.get(name) for name in (*names, "nf_conntrack_count", "nf_conntrack_buckets")}

    cdef _enlarge(self, uint32_t entries):
        """A larger index.  The old one stays until the table goes: a queue thread may be looking into it."""
        cdef Index* bigger = index_make(entries)
        if bigger == NULL:
            raise MemoryError("no room for a larger index of the flow table")
        bigger.older = self.handle.index
        with nogil:
            move_entries(self.handle, bigger)

    @property
    def count(self):
        """Entries in use, unconfirmed ones included."""
        return self.handle.count

    def stats(self):
        return {name: self.handle.stat[slot] for slot, name in enumerate(STATS)}
