"""Hooks as data: for each hook the steps in the kernel's order of priorities.  Header-only.  design.md must 3.

    priority   -400    -300  -200       -150    -100  0       50        100   last
    step       DEFRAG  RAW   CONNTRACK  MANGLE  DNAT  FILTER  SECURITY  SNAT  CONFIRM
"""

from libc.stdint cimport uint8_t


cdef enum Step:
    STEP_END = 0
    STEP_DEFRAG
    STEP_RAW
    STEP_CONNTRACK
    STEP_MANGLE
    STEP_DNAT
    STEP_FILTER
    STEP_SECURITY
    STEP_SNAT
    STEP_CONFIRM


cdef inline const uint8_t* steps_of(uint8_t hook) noexcept nogil:
    """The steps of a hook, ended by STEP_END."""
    return &STEPS[hook][0]


cdef extern from *:
    """
    static const unsigned char nfqfw_steps[5][8] = {
        {1, 2, 3, 4, 5, 0},         /* PREROUTING   defrag raw conntrack mangle dnat */
        {4, 6, 7, 8, 9, 0},         /* INPUT        mangle filter security snat confirm */
        {4, 6, 7, 0},               /* FORWARD      mangle filter security */
        {1, 2, 3, 4, 5, 6, 7, 0},   /* OUTPUT       defrag raw conntrack mangle dnat filter security */
        {4, 8, 9, 0},               /* POSTROUTING  mangle snat confirm */
    };
    """
    const uint8_t STEPS "nfqfw_steps"[5][8]
