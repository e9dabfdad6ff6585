"""The tables of recent, hashlimit and connlimit: which exist, and how long.

Life-cycle.  A Program says which tables its rules need (compile.NamedUse).  A shared one is made when the first Program names
it and lives until a Program in force names it no more, so its entries survive reloads; what the first rule asked for stays
(recent: its ring may grow, which empties the table).  A private one belongs to one rule of one Program.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

import os
from threading import Lock

from nfqfw._atomic cimport lock, unlock
from nfqfw._named cimport NamedEntry, NamedShape, NamedTable, named_flush

MOST_BUCKETS = 1 << 20


cdef class NamedHandle:
    """One table; its memory goes with the last reference."""

    def __cinit__(self, bytes config):
        cdef bytes secret = os.urandom(16)
        cdef NamedTable* t = <NamedTable*>calloc(1, sizeof(NamedTable))
        cdef uint32_t buckets = 1
        self.table = t
        if t == NULL:
            raise MemoryError
        if not sizeof(NamedShape) <= len(config) <= sizeof(NamedShape) + sizeof(t.own):
            raise ValueError("configuration of a named table")
        memcpy(&t.shape, <const char*>config, sizeof(NamedShape))
        memcpy(t.own, <const char*>config + sizeof(NamedShape), len(config) - sizeof(NamedShape))
        memcpy(t.secret, <const char*>secret, 16)
        while buckets < min(t.shape.buckets, MOST_BUCKETS):
            buckets <<= 1
        t.mask = buckets - 1
        t.bucket = <NamedEntry**>calloc(buckets, sizeof(NamedEntry*))
        if t.bucket == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.table != NULL:
            if self.table.bucket != NULL:
                named_flush(self.table)
            free(self.table.bucket)
            free(self.table)

    def asked_again(self, bytes config) -> None:
        """Another rule names the table: only a longer ring changes it."""
        cdef NamedShape shape
        if len(config) < sizeof(NamedShape):
            raise ValueError("configuration of a named table")
        memcpy(&shape, <const char*>config, sizeof(NamedShape))
        lock(&self.table.lock)
        if shape.ring > self.table.shape.ring:
            named_flush(self.table)
            self.table.shape.ring = shape.ring
        unlock(&self.table.lock)

    @property
    def count(self) -> int:
        """Entries now."""
        return self.table.count


class NamedTables:
    """The shared tables of one firewall by (match, name, family)."""

    def __init__(self) -> None:
        self.tables: dict = {}
        self.guard = Lock()

    def take(self, uses) -> list:
        """Handles for a Program's uses, in their order; makes what is not there."""
        with self.guard:
            return [self.one(use) for use in uses]

    def one(self, use):
        if use.key is None:
            return NamedHandle(use.configs[0])
        handle = self.tables.get(use.key)
        if handle is None:
            handle = self.tables[use.key] = NamedHandle(use.configs[0])
        for config in use.configs:
            handle.asked_again(config)
        return handle

    def keep(self, uses) -> None:
        """Forget every table that these uses, those of the Program now in force, do not name."""
        named = {use.key for use in uses}
        with self.guard:
            self.tables = {key: handle for key, handle in self.tables.items() if key in named}
