"""Handles of named tables, for modules that cimport them.  See _registry.pyx."""

from nfqfw._named cimport NamedTable


cdef class NamedHandle:
    cdef NamedTable* table
