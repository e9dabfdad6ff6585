"""Many datagrams with few system calls: sendmmsg(2) of packets that were built before, so that no interpreter is in what is timed."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Sequence

LIBC = ctypes.CDLL(None, use_errno=True)
IOVEC = struct.Struct("@PN")                            # iov_base, iov_len
MMSGHDR = struct.Struct("@PI4xPNPNi4xI4x")              # struct msghdr (name, namelen, iov, iovlen, control, controllen, flags), msg_len
ONE_CALL = 1024                                         # UIO_MAXIOV: the kernel takes no more


class Burst:
    """Whole IPv4 packets for a raw socket (IPPROTO_RAW), all sent to `host`'s next hop.  Call it to send them."""

    def __init__(self, raw: socket.socket, packets: Sequence[bytes], host: str):
        self._raw, self._count = raw, len(packets)
        self._data = ctypes.create_string_buffer(b"".join(packets))
        self._name = ctypes.create_string_buffer(struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(host)), 16)
        at, iovecs = ctypes.addressof(self._data), bytearray()
        for packet in packets:
            iovecs += IOVEC.pack(at, len(packet))
            at += len(packet)
        self._iovecs = ctypes.create_string_buffer(bytes(iovecs))
        first, name = ctypes.addressof(self._iovecs), ctypes.addressof(self._name)
        self._messages = ctypes.create_string_buffer(b"".join(
            MMSGHDR.pack(name, 16, first + i * IOVEC.size, 1, 0, 0, 0, 0) for i in range(self._count)))

    def __call__(self) -> None:
        """OSError if the kernel refuses one."""
        sent, base, descriptor = 0, ctypes.addressof(self._messages), self._raw.fileno()
        while sent < self._count:
            done = LIBC.sendmmsg(descriptor, ctypes.c_void_p(base + sent * MMSGHDR.size), min(ONE_CALL, self._count - sent), 0)
            if done < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            sent += done
