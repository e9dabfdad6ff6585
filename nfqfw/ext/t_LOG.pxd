"""target LOG: only its data; the engine writes the record.  Header-only."""

from libc.stdint cimport uint8_t


cdef struct LogInfo:            # "<BB30s"
    uint8_t level               # syslog level, 0 .. 7
    uint8_t flags               # LogFlag
    char prefix[30]             # NUL padded


cdef enum LogFlag:
    LOG_TCP_SEQUENCE = 1
    LOG_TCP_OPTIONS = 2
    LOG_IP_OPTIONS = 4
    LOG_UID = 8
    LOG_MACDECODE = 32
