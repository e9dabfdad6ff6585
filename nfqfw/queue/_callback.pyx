"""Callback: an engine whose decisions a Python function makes, packet by packet.

For tests of transports and for looking at what a queue delivers: it takes the GIL for every batch, so it is not for
filtering.  An exception of the function drops the packet (fail closed, reason `internal`) and is kept in `error`.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from nfqfw._outbox cimport OUTBOX_BYTES, EngineDoor, Outbox, OutPacket, Released, new_release, new_reply
from nfqfw._packet cimport DIRTY_MARK, DIRTY_PAYLOAD, DIRTY_PRIORITY, DROP, REASON_INTERNAL, Packet


cdef class View:
    """One packet during the call: facts to read, verdict / mark / priority / payload to set.  Afterwards: ValueError."""
    cdef Packet* _p
    cdef object _keep

    cdef Packet* packet(self) except NULL:
        if self._p == NULL:
            raise ValueError("a View is of no use after its call")
        return self._p

    id = property(lambda self: (<View>self).packet().id)
    hook = property(lambda self: (<View>self).packet().hook)
    family = property(lambda self: (<View>self).packet().family)
    ifin = property(lambda self: (<View>self).packet().ifin)
    ifout = property(lambda self: (<View>self).packet().ifout)
    total = property(lambda self: (<View>self).packet().total)
    capacity = property(lambda self: (<View>self).packet().capacity)
    skbinfo = property(lambda self: (<View>self).packet().skbinfo)
    uid = property(lambda self: (<View>self).packet().uid if (<View>self).packet().known & 2 else None)
    hwaddr = property(lambda self: bytes((<View>self).packet().hwaddr[:(<View>self).packet().hwlen]))

    @property
    def data(self):
        """The bytes captured, from the layer-3 header."""
        return PyBytes_FromStringAndSize(<char*>self.packet().data, self.packet().len)

    @data.setter
    def data(self, bytes new):
        self._keep.append(new)                      # sent after the function has returned
        self.packet().data = <uint8_t*><char*>new
        self.packet().len = <uint32_t>len(new)
        self.packet().dirty |= DIRTY_PAYLOAD

    @property
    def mark(self):
        return self.packet().mark

    @mark.setter
    def mark(self, uint32_t new):
        self.packet().mark = new
        self.packet().dirty |= DIRTY_MARK

    @property
    def priority(self):
        return self.packet().priority

    @priority.setter
    def priority(self, uint32_t new):
        self.packet().priority = new
        self.packet().dirty |= DIRTY_PRIORITY

    @property
    def verdict(self):
        return self.packet().verdict

    @verdict.setter
    def verdict(self, uint8_t new):
        self.packet().verdict = new


cdef class Callback:
    """decide(view) -> verdict number; idle() is called when the queue has been read empty."""
    cdef EngineDoor _door
    cdef object _decide
    cdef object _idle
    cdef list _keep                                 # payloads that must outlive the call
    cdef readonly object error

    def __cinit__(self, decide, idle=None):
        self._decide = decide
        self._idle = idle
        self._keep = []
        self._door.batch = callback_batch
        self._door.idle = callback_idle
        self._door.engine = <void*>self
        self._door.outbox = <Outbox*>calloc(1, sizeof(Outbox))
        if self._door.outbox == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._door.outbox)

    def door(self):
        return PyCapsule_New(&self._door, b"nfqfw.EngineDoor", NULL)

    def load(self, loaded):
        """As Engine.load; there are no rules here."""

    def set_attached(self, bits):
        """As Engine.set_attached; every crossing is judged by itself here."""

    def release(self, uint32_t id, uint8_t verdict, bytes payload=None, mark=None, uint32_t at=0xffffffff):
        """Give the verdict of a packet that was HELD; called from `decide` or `idle`."""
        cdef Released* r = new_release(self._door.outbox)
        if r == NULL:
            raise MemoryError("the outbox is full")
        r.id = id
        r.verdict = verdict
        r.at = at
        if payload is not None:
            self._keep.append(payload)
            r.data = <uint8_t*><char*>payload
            r.len = <uint32_t>len(payload)
            r.dirty |= DIRTY_PAYLOAD
        if mark is not None:
            r.mark = mark
            r.dirty |= DIRTY_MARK

    def reply(self, uint8_t family, bytes packet, uint32_t mark=0, uint32_t ifindex=0):
        """Put a packet of our own into the outbox; False when it is full."""
        cdef OutPacket* out
        if not 0 < len(packet) <= OUTBOX_BYTES:
            raise ValueError(f"a reply of {len(packet)} bytes: not within 1 to {OUTBOX_BYTES}")
        out = new_reply(self._door.outbox)
        if out == NULL:
            return False
        memcpy(out.data, <char*>packet, len(packet))
        out.len = <uint32_t>len(packet)
        out.family = family
        out.mark = mark
        out.ifindex = ifindex
        return True


cdef void callback_batch(void* engine, Packet* packets, uint32_t n, uint64_t now_ns, int64_t wall_ns) noexcept with gil:
    cdef Callback self = <Callback>engine
    cdef View view
    cdef uint32_t i
    self._keep.clear()
    for i in range(n):
        view = View.__new__(View)
        view._p = &packets[i]
        view._keep = self._keep
        try:
            packets[i].verdict = self._decide(view)
        except BaseException as error:
            self.error = error
            packets[i].verdict = DROP
            packets[i].reason = REASON_INTERNAL
        view._p = NULL                              # whoever has kept it finds nothing


cdef void callback_idle(void* engine, uint64_t now_ns) noexcept with gil:
    cdef Callback self = <Callback>engine
    self._keep.clear()
    if self._idle is None:
        return
    try:
        self._idle()
    except BaseException as error:
        self.error = error
