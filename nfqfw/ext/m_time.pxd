"""match time, in UTC.  Header-only."""

from libc.stdint cimport int64_t, uint32_t

from nfqfw._packet cimport Packet
from nfqfw._program cimport Context

cdef enum:
    DAY = 86400
    EVERY_MONTHDAY = 0xfffffffe


cdef struct TimeInfo:           # "<IIIIIII"
    uint32_t date[2]            # seconds since 1970, first and last
    uint32_t clock[2]           # seconds since midnight; first > last wraps
    uint32_t monthdays          # bit 1 .. 31
    uint32_t weekdays           # bit 1 Monday .. 7 Sunday
    uint32_t contiguous


cdef inline uint32_t day_of_month(int64_t days) noexcept nogil:
    """Day 1 .. 31 of the day that is so many days after 1970-01-01 (civil calendar, by eras of 400 years from March)."""
    cdef int64_t z = days + 719468
    cdef int64_t era = z // 146097
    cdef int64_t doe = z - era * 146097
    cdef int64_t yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    cdef int64_t doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    return <uint32_t>(doy - (153 * ((5 * doy + 2) // 153) + 2) // 5 + 1)


cdef inline bint m_time(Packet* p, const TimeInfo* info, Context* c) noexcept nogil:
    cdef int64_t stamp = c.wall // 1000000000
    cdef uint32_t clock = <uint32_t>(stamp % DAY)
    if stamp < info.date[0] or stamp > info.date[1]:
        return False
    if info.clock[0] < info.clock[1]:
        if clock < info.clock[0] or clock > info.clock[1]:
            return False
    else:
        if clock < info.clock[0] and clock > info.clock[1]:
            return False
        if info.contiguous and clock <= info.clock[1]:
            stamp -= DAY
    if not (info.weekdays >> ((3 + stamp // DAY) % 7 + 1)) & 1:
        return False
    return info.monthdays == <uint32_t>EVERY_MONTHDAY or ((info.monthdays >> day_of_month(stamp // DAY)) & 1) != 0
