"""Netlink messages in pure Python, for the control path: attributes, one request with its acknowledgement, dumps.

Control messages are few, so clarity wins over speed; the packet path has its own reader in C (`queue/`).  Importing a netlink
library costs 250 ms, this file 2.  All integers of a netlink header are native order; what an attribute holds is its family's
business.  Errors of the kernel are raised as NetlinkError, an OSError with the kernel's own words where it gives any.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x200, 0x400, 0x800
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_DUMP_INTR = 0x10          # the tables changed during a dump: it may be inconsistent
NLM_F_ACK_TLVS = 0x200          # the error message has attributes behind the request's copy
NLM_F_CAPPED = 0x100            # … and only the header of the request is copied
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF
SOL_NETLINK = 270
NETLINK_EXT_ACK = 11
NETLINK_ADD_MEMBERSHIP = 1
NLMSGERR_ATTR_MSG = 1
MAX_ERRNO = 4095                # linux/err.h

HEADER = struct.Struct("=IHHII")        # length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")        # length, type
DUMP_TRIES = 20                 # a table that changes during each of them is an error
RECEIVE_BYTES = 1 << 18                 # one read; the kernel's dump messages are at most 32 KiB


class NetlinkError(OSError):
    """The kernel refused a message.  `index` is the position of that message in its batch."""

    def __init__(self, number: int, text: str = "", index: int = 0):
        super().__init__(number, text or os.strerror(number))
        self.index = index


@contextmanager
def reading() -> Iterator[None]:
    """Around what takes a message apart: NetlinkError (EBADMSG) where it is not what the kernel sends."""
    try:
        yield
    except (struct.error, KeyError, ValueError) as error:
        raise NetlinkError(errno.EBADMSG, f"a netlink message that cannot be read ({error!r})") from error


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to 4 bytes."""
    return ATTRIBUTE.pack(4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """(type without flags, payload) of each attribute; a malformed rest ends the walk."""
    while offset + 4 <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > len(data):
            return
        yield kind & NLA_TYPE_MASK, data[offset + 4:offset + length]
        offset += length + (-length % 4)


def string(payload: bytes) -> str:
    """A NUL-terminated string; interface names may hold any byte but NUL and '/'."""
    return payload.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


class NetlinkSocket:
    """A socket of one netlink family, in the network namespace of the thread that made it.  A context manager."""

    def __init__(self, protocol: int, groups: int = 0):
        """Raises OSError: the kernel has no such family (EPROTONOSUPPORT)."""
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            self.socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
            self.socket.bind((0, groups))
        except BaseException:
            self.socket.close()
            raise
        self._sequence = 0

    def __enter__(self) -> "NetlinkSocket":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def join(self, group: int) -> None:
        """Receive what the kernel tells this multicast group (its number, not its bit)."""
        self.socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def send(self, messages: Iterable[tuple[int, int, bytes]]) -> list[int]:
        """(type, flags, body) of each message, all in one datagram.  Returns their sequence numbers."""
        parts, numbers = [], []
        for kind, flags, body in messages:
            self._sequence += 1
            numbers.append(self._sequence)
            body += b"\0" * (-len(body) % 4)
            parts.append(HEADER.pack(16 + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0) + body)
        self.socket.sendall(b"".join(parts))
        return numbers

    def batch(self, messages: list[tuple[int, int, bytes]]) -> None:
        """Send all in one datagram and raise the first error among the answers.

        The kernel works on a request inside send(), so that every answer waits to be read when it returns.
        """
        numbers = self.send(messages)
        first: NetlinkError | None = None
        for kind, _, sequence, body in self._waiting():
            if kind == NLMSG_ERROR and sequence in numbers and first is None:
                first = error_of(body, numbers.index(sequence))
        if first is not None:
            raise first

    def _waiting(self) -> Iterator[tuple[int, int, int, bytes]]:
        while True:
            try:
                data = self.socket.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            yield from split(data)

    def dump(self, kind: int, body: bytes, flags: int = NLM_F_DUMP) -> list[tuple[int, bytes]]:
        """(type, body) of every answer, asked again while the kernel's table changes under the dump.

        Raises NetlinkError; InterruptedError after DUMP_TRIES.
        """
        for _ in range(DUMP_TRIES):
            whole, found = self._dump_once(kind, body, flags)
            if whole:
                return found
        raise InterruptedError("the kernel's table changed during every dump")

    def _dump_once(self, kind: int, body: bytes, flags: int) -> tuple[bool, list[tuple[int, bytes]]]:
        [number] = self.send([(kind, flags, body)])
        found, torn = [], False
        while True:
            for answer, bits, sequence, content in split(self.socket.recv(RECEIVE_BYTES)):
                if sequence != number:
                    continue
                torn |= bool(bits & NLM_F_DUMP_INTR)
                if answer == NLMSG_ERROR and (error := error_of(content)):
                    raise error
                if answer in (NLMSG_DONE, NLMSG_ERROR):
                    return not torn, found
                found.append((answer, content))


def split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence, body) of each message of a datagram."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        if length < HEADER.size or offset + length > len(data):
            return
        yield kind, flags, sequence, with_flags(kind, flags, data[offset + HEADER.size:offset + length])
        offset += length + (-length % 4)


def with_flags(kind: int, flags: int, body: bytes) -> bytes:
    """The body; that of an error loses its copy of the request, so that attributes (if any) follow the error number."""
    if kind != NLMSG_ERROR or len(body) < 20:
        return body
    copied = 16 if flags & NLM_F_CAPPED else struct.unpack_from("=I", body, 4)[0]
    return body[:4] + (body[4 + copied + (-copied % 4):] if flags & NLM_F_ACK_TLVS else b"")


def error_of(body: bytes, index: int = 0) -> NetlinkError | None:
    """The NetlinkError of an NLMSG_ERROR body, None for an acknowledgement (error 0)."""
    if len(body) < 4:
        return NetlinkError(errno.EBADMSG, "", index)
    number = -struct.unpack_from("=i", body)[0]
    if number == 0:
        return None
    if not 0 < number <= MAX_ERRNO:
        return NetlinkError(errno.EBADMSG, "", index)
    words = next((string(payload) for kind, payload in attributes(body, 4) if kind == NLMSGERR_ATTR_MSG), "")
    return NetlinkError(number, words, index)
