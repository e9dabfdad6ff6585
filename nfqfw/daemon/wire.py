"""The control socket as both ends see it: where it is, who may speak, and how a message looks.

Overview.  One daemon per network namespace listens at RUN/<cookie>/control.  The cookie (SO_NETNS_COOKIE) is never reused,
the inode number of a namespace is.  A message is a head (a JSON object) and a body (bytes):

    "nfq1" | head length, 4 bytes | body length, 4 bytes | head | body            lengths little-endian

    client                                          daemon
    {"op": "applet", "name", "argv", ...}   ->
                                            <-      {"ask": "read" | "write" | "resolve" | "names", ...}    any number of times
    {"ok": true, ...} + body                ->
                                            <-      {"print": 1 or 2} + body                        any number of times
                                            <-      {"follow": "flow"} or "expectation"             more comes until we close
                                            <-      {"code": exit code}                             the last one

Files and names are the client's: it opens them in its own working directory and mount namespace, with its own rights and
umask, so none of these has to be sent, and the daemon only ever waits on the control socket.  That is why the client's
descriptors are not passed (SCM_RIGHTS): a daemon that reads a client's pipe, or writes to its terminal, waits for whoever is at
the other end, and what it reads is bounded by nobody.  The detour costs a copy: 5 ms for the 7 MB of 100,000 rules.

This module is on the path of every applet call: it imports nothing but socket and json.
"""

import json
import os
import socket

from nfqfw import limits

MAGIC = b"nfq1"
HEADER_BYTES = 12
BODY_BYTES = limits.RULES_FILE_BYTES
SO_NETNS_COOKIE = 71            # asm-generic/socket.h; Linux 5.14
RUN = "/run/nfqfw"


class WireError(Exception):
    """The other end does not speak this protocol, or stopped in the middle of a message."""


def run_directory() -> str:
    """Where daemons keep their sockets; NFQFW_RUN_DIR is for tests and for users without a writable /run."""
    return os.environ.get("NFQFW_RUN_DIR") or RUN


def netns_name(sock: socket.socket) -> str:
    """Name of the socket's network namespace: its cookie in decimal, or "ino-N" on kernels that have no cookies."""
    try:
        return str(int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), "little"))
    except OSError:
        return f"ino-{os.stat('/proc/thread-self/ns/net').st_ino}"


def daemon_directory(sock: socket.socket | None = None) -> str:
    """Directory of the daemon of the present network namespace, whether or not one runs."""
    if sock is not None:
        return os.path.join(run_directory(), netns_name(sock))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return os.path.join(run_directory(), netns_name(probe))


def peer(sock: socket.socket) -> tuple[int, int]:
    """(pid, uid) of the process at the other end of a connected Unix socket, as it was when it connected or listened."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], "little"), int.from_bytes(credentials[4:8], "little")


def trusted(uid: int) -> bool:
    """True if a process of that user may give us orders, or answers: root, or whoever we are."""
    return uid in (0, os.geteuid())


def connect() -> socket.socket:
    """Connection to the daemon of the present namespace.

    Raises FileNotFoundError or ConnectionRefusedError where none runs, PermissionError where we may not speak to it or it is
    another user's, TimeoutError where it does not accept within CONTROL_CONNECT_SECONDS.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(limits.CONTROL_CONNECT_SECONDS)
        sock.connect(os.path.join(daemon_directory(sock), "control"))
        if not trusted(peer(sock)[1]):
            raise PermissionError(f"the daemon of this namespace belongs to user {peer(sock)[1]}")
    except BaseException:
        sock.close()
        raise
    return sock


def send(sock: socket.socket, head: dict, body: bytes = b"") -> None:
    """Send one message; OSError if the other end is gone or does not read within the socket's time-out."""
    text = json.dumps(head, separators=(",", ":")).encode()
    if len(text) > limits.CONTROL_HEAD_BYTES or len(body) > BODY_BYTES:
        raise WireError(f"message of {len(text)} + {len(body)} bytes is too large")
    sock.sendall(MAGIC + len(text).to_bytes(4, "little") + len(body).to_bytes(4, "little") + text)
    if body:
        sock.sendall(body)


def receive(sock: socket.socket, body_limit: int = BODY_BYTES, rest_seconds: float | None = None) -> tuple[dict, bytes]:
    """The next message.

    EOFError: the other end closed between two messages.  WireError: not this protocol, too large, or cut.  TimeoutError: by
    the socket's time-out, which `rest_seconds` replaces once the header is here.  Nothing is allocated before the sizes are
    checked.
    """
    header = read_exactly(sock, HEADER_BYTES, first=True)
    if header[:4] != MAGIC:
        raise WireError("not a message of nfqfw")
    head_size, body_size = int.from_bytes(header[4:8], "little"), int.from_bytes(header[8:], "little")
    if head_size > limits.CONTROL_HEAD_BYTES or body_size > body_limit:
        raise WireError(f"message of {head_size} + {body_size} bytes is too large")
    before = sock.gettimeout()
    if rest_seconds is not None:
        sock.settimeout(rest_seconds)
    try:
        text, body = read_exactly(sock, head_size), read_exactly(sock, body_size)
    finally:
        sock.settimeout(before)
    try:
        head = json.loads(text)
    except (ValueError, RecursionError):
        raise WireError("head is not JSON") from None
    if not isinstance(head, dict):
        raise WireError("head is not an object")
    return head, body


def read_exactly(sock: socket.socket, size: int, first: bool = False) -> bytes:
    """`size` bytes; EOFError if `first` and there is none, WireError if the stream ends within."""
    parts: list[bytes] = []
    missing = size
    while missing:
        part = sock.recv(min(missing, 1 << 20))
        if not part:
            if first and missing == size:
                raise EOFError
            raise WireError("the message was cut")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
