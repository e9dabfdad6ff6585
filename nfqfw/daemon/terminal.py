"""The user's side of an applet: its standard streams, its files, its names.

A command that runs in the daemon asks for these over the control socket; one that runs in the client's own process
(NFQFW_STATE, or no daemon there) calls them directly.  Both use this class, so both behave alike.
"""

import os
import socket
import sys

from nfqfw import limits


class NobodyReads(Exception):
    """The pipe we print to is closed: end as SIGPIPE would."""


FAMILIES = {2: socket.AF_INET, 10: socket.AF_INET6}


class Terminal:
    """Streams and files of the process at hand.  Standard input is read once and kept: a command may be run again."""

    def __init__(self) -> None:
        self.stdin: bytes | None = None

    def read(self, path: str | None) -> bytes:
        """Whole content of a file, of standard input when None.  OSError as open() and read() give it; EFBIG beyond 256 MiB."""
        if path is None:
            if self.stdin is None:
                self.stdin = read_all(0)
            return self.stdin
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return read_all(fd)
        finally:
            os.close(fd)

    def write(self, path: str, data: bytes) -> None:
        """Replace a file's content, made with our umask if it is not there (as fopen(path, "w"))."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            write_all(fd, data)
        finally:
            os.close(fd)

    def resolve(self, name: str, family: int) -> list[str]:
        """Addresses of a host name as text, in the resolver's order, each once; [] if there is none.  `family` is 2 or 10."""
        try:
            found = socket.getaddrinfo(name, None, FAMILIES[family], socket.SOCK_RAW)
        except (OSError, UnicodeError):
            return []
        return list(dict.fromkeys(entry[4][0].partition("%")[0] for entry in found))

    def names(self, addresses: list[str]) -> list[str | None]:
        """Host name of each address; None where there is none."""
        return [host_name(address) for address in addresses]

    def print(self, stream: int, data: bytes) -> None:
        """Write to standard output (1) or standard error (2)."""
        try:
            write_all(stream, data)
        except BrokenPipeError:
            raise NobodyReads from None


def host_name(address: str) -> str | None:
    try:
        return socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0]
    except (OSError, UnicodeError):
        return None


def read_all(fd: int) -> bytes:
    """Everything up to end of file."""
    parts: list[bytes] = []
    size = 0
    while part := os.read(fd, 1 << 20):
        size += len(part)
        if size > limits.RULES_FILE_BYTES:
            raise OSError(27, os.strerror(27))          # EFBIG
        parts.append(part)
    return b"".join(parts)


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


def complain(text: str) -> None:
    """One line of ours to standard error."""
    sys.stderr.write(text.rstrip("\n") + "\n")
