"""Messages of the control socket: what goes in comes out; anything else is refused before it costs memory."""

import json
import socket

import pytest

from nfqfw import limits
from nfqfw.daemon import wire


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.settimeout(2)
    theirs.settimeout(2)
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("head, body", [
    ({}, b""),
    ({"op": "applet", "argv": ["-A", "INPUT", "ü", "\udcff"]}, b"\0" * 300_000),
    ({"code": 2}, b"x"),
])
def test_round_trip(pair, head, body):
    import threading
    sender = threading.Thread(target=wire.send, args=(pair[0], head, body))
    sender.start()
    assert wire.receive(pair[1]) == (head, body)
    sender.join()


def frame(text: bytes, magic: bytes = b"nfq1", head: int | None = None, body: int = 0) -> bytes:
    return magic + (len(text) if head is None else head).to_bytes(4, "little") + body.to_bytes(4, "little") + text


@pytest.mark.parametrize("sent, error", [
    (b"", EOFError),
    (b"nfq1", wire.WireError),                                             # cut in the header
    (frame(b"{}", magic=b"HTTP"), wire.WireError),
    (frame(b"{}", head=limits.CONTROL_HEAD_BYTES + 1), wire.WireError),    # refused by its announced size
    (frame(b"{}", body=limits.RULES_FILE_BYTES + 1), wire.WireError),
    (frame(b"{}", head=3), wire.WireError),                                # cut in the head
    (frame(b"{}", body=1), wire.WireError),                                # cut in the body
    (frame(b"[1]"), wire.WireError),
    (frame(b"\xff\xfe"), wire.WireError),
    (frame(b"[" * 100_000), wire.WireError),                               # deep nesting
])
def test_garbage_is_refused(pair, sent, error):
    pair[0].sendall(sent)
    pair[0].shutdown(socket.SHUT_WR)
    with pytest.raises(error):
        wire.receive(pair[1])


def test_too_large_is_not_sent(pair):
    with pytest.raises(wire.WireError):
        wire.send(pair[0], {"x": "y" * limits.CONTROL_HEAD_BYTES})


def test_peer_is_us(pair):
    import os
    assert wire.peer(pair[0]) == (os.getpid(), os.geteuid())


def test_directory_is_named_by_the_cookie():
    """The kernel's own figure: getsockopt(SOL_SOCKET, SO_NETNS_COOKIE = 71)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        cookie = int.from_bytes(sock.getsockopt(1, 71, 8), "little")
    assert wire.daemon_directory().rpartition("/")[2] == str(cookie)


def test_head_is_ascii_json(pair):
    """A client in any language can speak it."""
    wire.send(pair[0], {"name": "ü"})
    data = pair[1].recv(1000)
    assert json.loads(data[12:].decode("ascii")) == {"name": "ü"}
