"""The expectations of a flow table, as commands make, list and end them (what packets do with them: `expect.pxd`)."""

import errno
import socket
import time

from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

from nfqfw._atomic cimport lock, unlock
from nfqfw._conn cimport EXPECT_INACTIVE, EXPECT_PERMANENT, Expect, Tuple, ticks
from nfqfw.conntrack._memory cimport TableMemory
from nfqfw.conntrack.expect cimport EXPECT_CLASH, EXPECT_FULL, expect_end, expect_insert, expect_over, expect_seek, fill_expect
from nfqfw.conntrack.index cimport FIND_BOTH, index_find
from nfqfw.conntrack.life cimport conn_lock
from nfqfw.conntrack.table cimport Conntrack, ExpectRecord
from nfqfw.conntrack.tuple cimport hash_tuple

from nfqfw.conntrack.expectation import Expectation


cdef fill_tuple(Tuple* a, family, proto, side):
    """A Side of an Entry as the C tuple, zone 0.  OSError: no address of the family; OverflowError: no port or protocol."""
    if family not in (2, 10):
        raise ValueError(f"family {family}: neither 2 nor 10")
    cdef bytes src = socket.inet_pton(socket.AF_INET if family == 2 else socket.AF_INET6, side.src)
    cdef bytes dst = socket.inet_pton(socket.AF_INET if family == 2 else socket.AF_INET6, side.dst)
    memset(a, 0, sizeof(Tuple))
    memcpy(a.src, <const char*>src, len(src))
    memcpy(a.dst, <const char*>dst, len(dst))
    a.sport, a.dport, a.proto, a.family = side.sport, side.dport, proto, family


cdef class ExpectationTable(TableMemory):
    """Base of ConntrackTable."""

    cdef uint32_t _find(self, family, proto, side, uint32_t* direction):
        """Confirmed entry with this tuple in its zone, 0 = none."""
        cdef Conntrack* t = self.handle
        cdef Tuple a
        fill_tuple(&a, family, proto, side)
        a.zone = side.zone
        return index_find(t, &a, hash_tuple(t.key, &a), ticks(t.now_ns), FIND_BOTH, 0, direction, NULL)

    @property
    def expect_count(self):
        """Expectations in the table."""
        return self.handle.expect.count

    def expectations(self, now_ns=None):
        """Snapshot of the living expectations, one Expectation each."""
        cdef Conntrack* t = self.handle
        cdef ExpectRecord record
        cdef uint32_t n
        out = []
        if now_ns is not None:
            t.now_ns = now_ns
        for n in range(1, t.header.expect_high):
            lock(&t.expect.lock)
            if t.table.expect[n].commit and not expect_over(&t.table.expect[n], ticks(t.now_ns)):
                fill_expect(t, n, 0, &record)
                unlock(&t.expect.lock)
                out.append(Expectation.unpack((<const char*>&record)[:sizeof(ExpectRecord)]))
            else:
                unlock(&t.expect.lock)
        return out

    def expect_find(self, expectation, now_ns):
        """The Expectation that a packet from its source to its destination would fulfil, or None."""
        cdef Conntrack* t = self.handle
        cdef ExpectRecord record
        cdef Tuple a
        cdef uint32_t n
        t.now_ns = now_ns
        fill_tuple(&a, expectation.family, expectation.proto, expectation.side)
        lock(&t.expect.lock)
        n = expect_seek(t, &a, expectation.side.zone, ticks(t.now_ns))
        if n:
            fill_expect(t, n, 0, &record)
        unlock(&t.expect.lock)
        return Expectation.unpack((<const char*>&record)[:sizeof(ExpectRecord)]) if n else None

    def expect(self, expectation, now_ns=None):
        """Make an expectation as `conntrack -I expect` does; its time is the policy's of the master's helper.

        LookupError: no master.  NotImplementedError: the master has no helper.  FileExistsError: it is expected already.
        PermissionError: another master expects the same.  OSError EMFILE: nf_conntrack_expect_max.
        """
        cdef Conntrack* t = self.handle
        cdef Expect e
        cdef Tuple a, mask
        cdef uint32_t master, direction = 0
        cdef int answer
        t.now_ns = now_ns if now_ns is not None else time.monotonic_ns()
        if self.expect_find(expectation, t.now_ns) is not None:
            raise FileExistsError(errno.EEXIST, "File exists")
        master = self._find(expectation.family, expectation.proto, expectation.master, &direction)
        if master == 0:
            raise LookupError("master conntrack not found")
        fill_tuple(&a, expectation.family, expectation.proto, expectation.side)
        fill_tuple(&mask, expectation.family, expectation.proto, expectation.mask)
        memset(&e, 0, sizeof(Expect))
        e.master, e.family, e.proto, e.klass = master, expectation.family, expectation.proto, expectation.klass
        e.flags = expectation.flags & (EXPECT_PERMANENT | EXPECT_INACTIVE)         # the kernel takes USERSPACE off too
        memcpy(e.src, a.src, 16)
        memcpy(e.dst, a.dst, 16)
        memcpy(e.src_mask, mask.src, 16)
        e.sport, e.dport, e.sport_mask, e.zone = a.sport, a.dport, mask.sport, expectation.side.zone
        lock(conn_lock(t, master))
        e.master_id = t.table.hot[master].id
        if t.table.hot[master].commit == 0:
            unlock(conn_lock(t, master))
            raise LookupError("master conntrack not found")     # it ended a moment ago
        if t.table.cold[master].helper == 0:
            unlock(conn_lock(t, master))
            raise NotImplementedError("Operation not supported")
        answer = expect_insert(t, &e, ticks(t.now_ns))
        unlock(conn_lock(t, master))
        if answer == EXPECT_CLASH:
            raise PermissionError(errno.EBUSY, "Device or resource busy")
        if answer == EXPECT_FULL:
            raise OSError(errno.EMFILE, "Too many open files")

    def expect_delete(self, number, ident):
        """End expectation `number` if it is still the one with this id.  True if it was there."""
        cdef Conntrack* t = self.handle
        cdef uint32_t n = number, life = ident
        cdef bint there
        lock(&t.expect.lock)
        there = 0 < n < t.header.expect_high and t.table.expect[n].commit != 0 and t.table.expect[n].id == life
        if there:
            expect_end(t, n)
        unlock(&t.expect.lock)
        return there
