"""The daemon's end of the control socket: accepts, checks who it is, reads one request, hands it to a handler.

Overview.  One thread accepts, one short-lived thread serves each client, at most CONTROL_CLIENTS at once.  A client can
do no harm by what it sends or by going away: sizes are checked before anything is read, every wait has a time-out, and an
exception ends that one session.  Whatever must be atomic is the handler's concern.

Who owns the place.  A daemon holds a lock on RUN/<cookie>/lock for as long as it lives; only its holder may remove a socket
that a killed daemon left, and listen.  The lock dies with the process, so there is nothing to clean after a kill.
"""

import errno
import fcntl
import os
import socket
import threading
import traceback
from collections.abc import Callable

from nfqfw import limits
from nfqfw.daemon import wire

HANG_UP_SECONDS, HANG_UP_READS = 0.5, 64        # how long, and how many times 64 KiB, a client that we are done with is read

Handler = Callable[["Session", dict], int]


class Disconnected(Exception):
    """The client is gone, or does not speak our language; there is nobody to tell."""


class Session:
    """One client.  Has the methods of Terminal: what a handler reads, resolves and prints happens at the client's."""

    def __init__(self, sock: socket.socket, pid: int, uid: int) -> None:
        self.sock, self.pid, self.uid = sock, pid, uid
        self.stdin: bytes | None = None

    def read(self, path: str | None) -> bytes:
        """Content of a file of the client's, of its standard input when None; OSError as the client got it."""
        if path is None and self.stdin is not None:
            return self.stdin
        body = self.ask({"ask": "read", "path": path})[1]
        if path is None:
            self.stdin = body
        return body

    def write(self, path: str, data: bytes) -> None:
        self.ask({"ask": "write", "path": path}, data)

    def resolve(self, name: str, family: int) -> list[str]:
        """Addresses of a host name, as the client's resolver gives them; [] if there is none."""
        addresses = self.ask({"ask": "resolve", "name": name, "family": family})[0].get("addresses", [])
        return [str(address) for address in addresses] if isinstance(addresses, list) else []

    def names(self, addresses: list[str]) -> list[str | None]:
        """Host name of each address, as the client's resolver gives it; None where there is none."""
        names = self.ask({"ask": "names", "addresses": addresses})[0].get("names", [])
        return [name if isinstance(name, str) else None for name in names] if isinstance(names, list) else []

    def print(self, stream: int, data: bytes) -> None:
        if data:
            self.tell({"print": stream}, data)

    def ask(self, question: dict, body: bytes = b"") -> tuple[dict, bytes]:
        """One question to the client and its answer.  Waits as long as the client takes: hold no lock."""
        self.tell(question, body)
        self.sock.settimeout(limits.CONTROL_ASK_SECONDS)
        try:
            head, body = wire.receive(self.sock, rest_seconds=limits.CONTROL_REQUEST_SECONDS)
        except (OSError, EOFError, wire.WireError) as error:
            raise Disconnected from error
        if head.get("ok") is not True:
            number = head.get("errno")
            number = number if isinstance(number, int) else errno.EIO
            raise OSError(number, os.strerror(number))
        return head, body

    def tell(self, head: dict, body: bytes = b"") -> None:
        self.sock.settimeout(limits.CONTROL_ANSWER_SECONDS)
        try:
            wire.send(self.sock, head, body)
        except OSError as error:
            raise Disconnected from error


class Server:
    """Listens at directory/control.  `handlers` maps the "op" of a request to what serves it and returns an exit code."""

    def __init__(self, directory: str, handlers: dict[str, Handler], log: Callable[[str], None] = print) -> None:
        self.directory = directory
        self.handlers = handlers
        self.log = log
        self.rejected = 0                               # connections ended for what they are or sent
        self.slots = threading.BoundedSemaphore(limits.CONTROL_CLIENTS)
        self.sock: socket.socket | None = None
        self.lock_fd = -1
        self.stopping = False

    def claim(self) -> bool:
        """Become the daemon of this namespace; False if another process is."""
        os.makedirs(wire.run_directory(), mode=0o755, exist_ok=True)
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        fd = os.open(os.path.join(self.directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        if not same_file(fd, os.path.join(self.directory, "lock")):        # its last holder removed it under our hands
            os.close(fd)
            return self.claim()
        self.lock_fd = fd
        return True

    def listen(self) -> None:
        """Open the socket (0600) and serve from now on.  Needs `claim`."""
        path = os.path.join(self.directory, "control")
        new = path + ".new"
        for leftover in (new, path):
            if os.path.lexists(leftover):
                os.unlink(leftover)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.bind(new)
        os.chmod(new, 0o600)
        self.sock.listen(limits.CONTROL_BACKLOG)
        os.rename(new, path)                            # whoever sees the socket can connect to it, and it is 0600
        threading.Thread(target=self.accept, name="control", daemon=True).start()

    def accept(self) -> None:
        while not self.stopping:
            self.slots.acquire()
            try:
                sock, _ = self.sock.accept()
            except OSError:
                self.slots.release()
                if not self.stopping:
                    threading.Event().wait(0.1)         # out of descriptors: try again when a client has gone
                continue
            threading.Thread(target=self.serve, args=(sock,), name="client", daemon=True).start()

    def serve(self, sock: socket.socket) -> None:
        """One client, from its request to the exit code."""
        try:
            with sock:
                pid, uid = wire.peer(sock)
                if not wire.trusted(uid):
                    self.rejected += 1
                    wire.send(sock, {"error": f"user {uid} may not change this firewall"})
                else:
                    self.request(Session(sock, pid, uid))
                hang_up(sock)
        except (Disconnected, OSError):
            pass
        finally:
            self.slots.release()

    def request(self, session: Session) -> None:
        session.sock.settimeout(limits.CONTROL_REQUEST_SECONDS)
        try:
            head, _ = wire.receive(session.sock, body_limit=0)
        except EOFError:
            return                                      # somebody looked whether we are here
        except (wire.WireError, TimeoutError) as error:
            self.rejected += 1
            session.tell({"error": str(error) or "no request came"})
            return
        handler = self.handlers.get(str(head.get("op")))
        if handler is None:
            self.rejected += 1
            session.tell({"error": f"unknown request {head.get('op')!r:.80}"})
            return
        try:
            session.tell({"code": handler(session, head)})
        except Disconnected:
            raise
        except Exception as error:                      # a bug of ours must not end the daemon, nor go unseen
            self.log(traceback.format_exc())
            session.tell({"error": f"internal error: {type(error).__name__}: {error}"})

    def close(self) -> None:
        """Stop listening and give the place free.  Sessions under way end with their client."""
        self.stopping = True
        if self.sock is not None:
            try:
                self.sock.shutdown(socket.SHUT_RDWR)    # wakes accept()
            except OSError:
                pass
            self.sock.close()
            unlink_quietly(os.path.join(self.directory, "control"))
        if self.lock_fd >= 0:
            unlink_quietly(os.path.join(self.directory, "lock"))
            os.close(self.lock_fd)
            self.lock_fd = -1
            try:
                os.rmdir(self.directory)
            except OSError:
                pass                                    # a log file stays, or a new daemon is already there


def hang_up(sock: socket.socket) -> None:
    """End what we say, and read a little of what is still coming: closing with unread bytes makes the kernel throw away our
    last message with ECONNRESET at the other end."""
    sock.shutdown(socket.SHUT_WR)
    sock.settimeout(HANG_UP_SECONDS)
    for _ in range(HANG_UP_READS):
        if not sock.recv(1 << 16):
            return


def same_file(fd: int, path: str) -> bool:
    """True if `path` still names the file that `fd` has open."""
    try:
        named, opened = os.stat(path), os.fstat(fd)
    except FileNotFoundError:
        return False
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


def unlink_quietly(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
