"""TimeoutPolicies: the time-out policies of a flow table (`conntrack/policy.pxd` says how packets use them)."""

import errno
import os
import threading

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from nfqfw._atomic cimport fence
from nfqfw._conn cimport TimeoutPolicy
from nfqfw._conntrack cimport Conntrack, ConntrackTable
from nfqfw.conntrack.policy cimport policy_forget

from nfqfw.conntrack import tunables
from nfqfw.conntrack.timeouts import TRACKERS, Policy
from nfqfw.ext import timeouts


cdef class TimeoutPolicies:
    """The policies of `table`, the same for every TimeoutPolicies of it.  Methods as PolicyList has them."""

    cdef readonly ConntrackTable table
    cdef object lock

    def __init__(self, ConntrackTable table not None):
        self.table = table
        self.lock = threading.Lock()
        for policy in self.list():                      # of the process whose table this was
            self._show(policy.name, self._row(policy.name))

    def list(self):
        """All, in the order in which they were added."""
        cdef Conntrack* t = self.table.handle
        cdef uint32_t row
        rows = sorted((t.table.policies[row].serial, row) for row in range(1, t.header.policy_high) if t.table.policies[row].length)
        return [self._policy(row) for _, row in rows]

    def get(self, name):
        """The Policy of this name, or None."""
        cdef uint32_t row = self._row(name)
        return self._policy(row) if row else None

    def add(self, policy):
        """Names are unique: the caller has looked.  OSError ENOMEM: no room."""
        cdef Conntrack* t = self.table.handle
        cdef TimeoutPolicy* to
        cdef uint32_t row, k
        cdef bytes name = policy.name.encode(errors="surrogateescape")
        with self.lock:
            row = 1
            while row < t.header.policy_high and t.table.policies[row].serial:
                row += 1
            if row >= t.table.policy_slots or not timeouts.number_of(policy.name):
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
            t.header.policy_high = max(t.header.policy_high, row + 1)
            to = &t.table.policies[row]
            to.serial = 1 + max([t.table.policies[k].serial for k in range(1, t.header.policy_high)])
            fence()
            to.family, to.proto, to.first = policy.family, policy.proto, TRACKERS[policy.proto].first
            for k, seconds in enumerate(policy.seconds):
                to.seconds[k] = seconds
            memcpy(to.name, <const char*>name, len(name))
            fence()
            to.length = <uint8_t>len(policy.seconds)
            self._show(policy.name, row)

    def take(self, other):
        """Have what a PolicyList has: its policies, and its defaults where they are not the usual ones."""
        for slot, tunable in enumerate(tunables.TUNABLES):
            if other.tunables[slot] != tunable.default:
                self.table.handle.tunable[slot] = other.tunables[slot]
        for policy in other.list():
            self.add(policy)

    def delete(self, name):
        """The caller has seen that it is there, and that no rule names it."""
        cdef uint32_t row = self._row(name)
        with self.lock:
            self._show(name, 0)
            with nogil:
                policy_forget(self.table.handle, row)

    def defaults(self, tracker):
        """Seconds of the tunables in force."""
        cdef uint32_t k
        return tuple(self.table.handle.tunable[k] for k in range(tracker.first, tracker.first + tracker.length))

    def set_defaults(self, tracker, seconds):
        cdef uint32_t k
        for k, value in enumerate(seconds, tracker.first):
            self.table.handle.tunable[k] = value

    def tear(self, name):
        """For tests: leave the row as a kill in the middle of its deletion would."""
        self.table.handle.table.policies[self._row(name)].length = 0

    cdef uint32_t _row(self, name):
        """Row of a living policy, 0 = none."""
        cdef Conntrack* t = self.table.handle
        cdef bytes wanted = name.encode(errors="surrogateescape")
        cdef uint32_t row
        for row in range(1, t.header.policy_high):
            if t.table.policies[row].length and <bytes>t.table.policies[row].name == wanted:
                return row
        return 0

    cdef _policy(self, uint32_t row):
        cdef const TimeoutPolicy* p = &self.table.handle.table.policies[row]
        cdef uint32_t k
        return Policy((<bytes>p.name).decode(errors="surrogateescape"), p.family, p.proto, tuple(p.seconds[k] for k in range(p.length)))

    cdef _show(self, name, uint32_t row):
        """Which row templates with this name mean from now on."""
        self.table.handle.policy_row[<uint16_t>timeouts.number_of(name)] = <uint16_t>row

