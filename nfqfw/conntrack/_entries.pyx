"""The entries of a flow table, as commands list, change and end them, and the events about them."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from nfqfw._atomic cimport fence, lock, or32, unlock
from nfqfw._conn cimport (ASSURED, CONFIRMED, CONN_ACCT, CONN_HIDDEN, CONN_STAMPED, FIXED_TIMEOUT, SEEN_REPLY, TELL_ASSURED, TELL_HELPER,
                          TELL_LABEL, TELL_MARK, TELL_NEW, TELL_PROTOINFO, TELL_REPLY, TICKS, ConnHot, is_expired, labels_of, ticks)
from nfqfw._ring cimport ring_drain, ring_init
from nfqfw.conntrack._expectations cimport ExpectationTable
from nfqfw.conntrack.life cimport conn_lock, emit, fill_record, kill_locked
from nfqfw.conntrack.sctp cimport SctpConn
from nfqfw.conntrack.table cimport EVENT_EXPECT_NEW, EVENT_NEW, EVENT_UPDATE, S_INSERT, T_TIMESTAMP, ConnRecord, Conntrack
from nfqfw.conntrack.takeover cimport states_of
from nfqfw.conntrack.tcp cimport SIDE_LIBERAL
from nfqfw.conntrack.track cimport count
from nfqfw.conntrack.tuple cimport PROTO_SCTP, PROTO_TCP

from nfqfw.conntrack import tunables as tunable_table
from nfqfw.conntrack.entry import Entry
from nfqfw.conntrack.expectation import Expectation


# ---- what an injected or changed entry is given: read whole before a lock is taken ----------------------------------------

cdef uint32_t seconds_of(timeout) except? 0xffffffff:
    return min(timeout, tunable_table.SECONDS_MAX)


cdef int split_labels(labels, uint64_t* out) except -1:
    """128 bits; OverflowError for more, or a negative number."""
    out[1] = labels >> 64
    out[0] = labels & 0xffffffffffffffff
    return 0


cdef int read_dress(Dress* dress, entry) except -1:
    dress.state, dress.mark, dress.status = entry.state, entry.mark, entry.status
    dress.seconds = seconds_of(entry.timeout)
    dress.vtag[0], dress.vtag[1] = entry.extra.get("vtag", (0, 0))
    split_labels(entry.labels, dress.labels)
    if dress.state >= states_of(entry.proto):
        raise ValueError(f"state {entry.state}: protocol {entry.proto} has none of this number")
    return 0


cdef class EntryTable(ExpectationTable):
    """Base of ConntrackTable."""

    def list(self, unconfirmed=False, now_ns=None):
        """Snapshot of the living entries, one Entry each."""
        cdef Conntrack* t = self.handle
        cdef ConnRecord record
        cdef uint32_t i
        out = []
        if now_ns is not None:
            t.now_ns = now_ns
        for i in range(1, t.header.high):
            if not self._listed(i, unconfirmed):
                continue
            fill_record(t, i, 0, &record)
            out.append(Entry.unpack((<const char*>&record)[:sizeof(ConnRecord)]))
        return out

    cdef bint _listed(self, uint32_t i, bint unconfirmed):
        cdef const ConnHot* c = &self.handle.table.hot[i]
        if c.commit == 0 or c.commit & 1 or c.flags & CONN_HIDDEN or is_expired(c, ticks(self.handle.now_ns)):
            return False
        return unconfirmed or (c.status & CONFIRMED) != 0

    cdef void _dress(self, uint32_t i, const Dress* dress, uint64_t now, uint32_t portid) noexcept:
        """State, window and status of an injected entry; liberal, since nobody knows its windows."""
        cdef Conntrack* t = self.handle
        cdef ConnHot* c = &t.table.hot[i]
        cdef SctpConn* association = <SctpConn*>&t.table.window[i]
        memset(&t.table.window[i], 0, sizeof(t.table.window[i]))
        c.state = dress.state
        c.mark = dress.mark
        if c.proto == PROTO_TCP:
            t.table.window[i].side[0].flags = SIDE_LIBERAL
            t.table.window[i].side[1].flags = SIDE_LIBERAL
        elif c.proto == PROTO_SCTP:
            association.vtag[0], association.vtag[1] = dress.vtag[0], dress.vtag[1]
        if dress.labels[0] | dress.labels[1]:
            labels_of(&t.table, i).bits[0] = dress.labels[0]
            t.table.labels[i].bits[1] = dress.labels[1]
        if t.tunable[T_TIMESTAMP]:
            c.flags |= CONN_STAMPED
        c.expires = ticks(now) + dress.seconds * TICKS
        fence()
        or32(&c.status, dress.status | CONFIRMED)
        count(t, S_INSERT)
        emit(t, i, EVENT_NEW, TELL_NEW | TELL_MARK, portid)

    def change(self, number, ident, *, mark=None, mask=0xffffffff, timeout=None, status=None, state=None, labels_add=0,
               labels_del=0, bint zero=False, uint32_t portid=0):
        """Change entry `number` if it still has this id; its new Entry, or None if it is gone.

        ValueError, OverflowError: a number that no entry can have.
        """
        cdef Conntrack* t = self.handle
        cdef uint32_t i = number, life = ident, new_mark = mark or 0, marked = mask
        cdef uint32_t seconds = seconds_of(timeout or 0), bits = status or 0, new_state = state or 0
        cdef uint64_t add[2]
        cdef uint64_t away[2]
        cdef ConnHot* c = &t.table.hot[i]
        cdef ConnRecord record
        cdef bint remarked = mark is not None, timed = timeout is not None, stated = state is not None
        cdef bint fits                          # no Python behind the lock: who raises would keep it
        split_labels(labels_add, add)
        split_labels(labels_del, away)
        lock(conn_lock(t, i))
        if not 0 < i < t.header.high or c.commit == 0 or c.id != life:
            unlock(conn_lock(t, i))
            return None
        fits = new_state < states_of(c.proto)
        if not fits:
            unlock(conn_lock(t, i))
            raise ValueError(f"state {new_state}: the protocol has none of this number")
        if remarked:
            c.mark = (c.mark & ~marked) ^ new_mark
        if timed:
            c.expires = ticks(t.now_ns) + seconds * TICKS
        or32(&c.status, bits & (ASSURED | SEEN_REPLY | FIXED_TIMEOUT))
        if stated:
            c.state = <uint8_t>new_state
        if add[0] | add[1] | away[0] | away[1]:
            labels_of(&t.table, i)
            t.table.labels[i].bits[0] = t.table.labels[i].bits[0] & ~away[0] | add[0]
            t.table.labels[i].bits[1] = t.table.labels[i].bits[1] & ~away[1] | add[1]
        if zero and c.flags & CONN_ACCT:
            memset(&t.table.acct[i], 0, sizeof(t.table.acct[i]))
        if not zero:
            emit(t, i, EVENT_UPDATE, TELL_REPLY | TELL_ASSURED | TELL_PROTOINFO | TELL_HELPER | TELL_MARK | TELL_LABEL, portid)
        fill_record(t, i, 0, &record)
        unlock(conn_lock(t, i))
        return Entry.unpack((<const char*>&record)[:sizeof(ConnRecord)])

    def delete(self, number, ident=None, uint32_t portid=0):
        """End entry `number` (if it is still the one with this id).  True if it was there."""
        cdef Conntrack* t = self.handle
        cdef uint32_t i = number, life = ident or 0
        cdef bint there, any_life = ident is None
        if not 0 < i < t.header.high:
            return False
        lock(conn_lock(t, i))
        there = t.table.hot[i].commit != 0 and (any_life or t.table.hot[i].id == life)
        if there:
            kill_locked(t, i, portid)
        unlock(conn_lock(t, i))
        return there

    def flush(self, portid=0):
        """End every confirmed entry; returns how many."""
        cdef Conntrack* t = self.handle
        ended = 0
        for i in range(1, t.header.high):
            if t.table.hot[i].status & CONFIRMED and self.delete(i, None, portid):
                ended += 1
        return ended

    # events

    def listen(self, size=4 << 20):
        """Start telling events into a ring of `size` bytes."""
        cdef Conntrack* t = self.handle
        if t.events.data == NULL and not ring_init(&t.events, size):
            raise MemoryError
        t.events_on = 1

    def deafen(self):
        """Stop telling events; what is in the ring can still be read."""
        self.handle.events_on = 0

    def events(self, limit=1024):
        """Up to `limit` events, oldest first, as Entry or Expectation with `kind` set."""
        return [Expectation.unpack(record) if record[4] >= EVENT_EXPECT_NEW else Entry.unpack(record)
                for record in ring_drain(&self.handle.events, limit)]

    @property
    def events_dropped(self):
        return self.handle.events.dropped
