"""One rule: declarations; see _rule.pyx."""

from libc.stdint cimport uint64_t

cdef enum:                      # Rule.inverted: bits as in struct ipt_ip of the kernel
    INV_IN = 0x01
    INV_OUT = 0x02
    INV_SRC = 0x08
    INV_DST = 0x10
    INV_FRAG = 0x20
    INV_PROTO = 0x40


cdef class Rule:
    cdef public bytes source            # wire bytes, None = not asked
    cdef public bytes source_mask
    cdef public bytes destination
    cdef public bytes destination_mask
    cdef public str in_interface        # name; with a "+" at the end it is a prefix; "" = not asked
    cdef public str out_interface
    cdef public int protocol            # 0 = any
    cdef public bint fragment           # -f given
    cdef public int inverted            # INV_* bits
    cdef public tuple matches           # of Use, in the rule's order
    cdef public object target           # Standard, Jump, Use, or None: count and go on
    cdef public uint64_t packets        # counts it starts with
    cdef uint64_t byte_count
    cdef public str file                # where it was written; "" = on a command line
    cdef public int line
    cdef public bint plain              # rules.validate found nothing to look at in it
    cdef public Rule continues          # only set by -E: the rule whose counting this one continues

    cpdef bint is_unconditional(self)
    cpdef bint same_as(self, Rule other) except -1
