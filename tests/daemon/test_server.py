"""The control socket against clients that behave, go away, send garbage or are somebody else."""

import os
import socket
import threading
import time

import pytest

from nfqfw import limits
from nfqfw.daemon import wire
from nfqfw.daemon.server import Server

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes user")


def echo(session, head):
    """A handler that uses every way a session has."""
    text = session.read(head["path"]) if "path" in head else b""
    session.print(1, text)
    session.print(2, ",".join(session.resolve("name", 2)).encode())
    return head["wanted"]


def broken(session, head):
    raise ZeroDivisionError("a bug")


@pytest.fixture
def server():
    lines = []
    server = Server(wire.daemon_directory(), {"echo": echo, "broken": broken}, lines.append)
    server.lines = lines
    assert server.claim()
    server.listen()
    yield server
    server.close()


def talk(head, answers=()):
    """All messages of the daemon to one request; its questions are answered in order."""
    answers = iter(answers)
    got = []
    with wire.connect() as sock:
        wire.send(sock, head)
        while True:
            try:
                message = wire.receive(sock)
            except EOFError:
                return got
            got.append(message)
            if "ask" in message[0]:
                wire.send(sock, *next(answers))


def still_serves():
    return talk({"op": "echo", "wanted": 3}, [({"ok": True, "addresses": ["10.0.0.1"]}, b"")])[-1] == ({"code": 3}, b"")


def test_questions_output_and_code(server):
    got = talk({"op": "echo", "wanted": 7, "path": "rules"},
               [({"ok": True}, b"text"), ({"ok": True, "addresses": ["192.0.2.1", "192.0.2.2"]}, b"")])
    assert got == [({"ask": "read", "path": "rules"}, b""), ({"print": 1}, b"text"),
                   ({"ask": "resolve", "name": "name", "family": 2}, b""), ({"print": 2}, b"192.0.2.1,192.0.2.2"), ({"code": 7}, b"")]


def test_error_of_the_client_reaches_the_handler_as_its_errno(server):
    got = talk({"op": "echo", "wanted": 0, "path": "rules"}, [({"ok": False, "errno": 2}, b"")])
    assert "No such file" in got[-1][0]["error"]


@pytest.mark.parametrize("sent", [
    b"GET / HTTP/1.0\r\n\r\n",
    b"nfq1\xff\xff\xff\xff\x00\x00\x00\x00",
    b"nfq1\x02\x00\x00\x00\x01\x00\x00\x00{}x",        # a request has no body
    b"nfq1\x02\x00\x00\x00\x00\x00\x00\x00[]",
    b"nfq1\x02\x00\x00\x00\x00\x00\x00\x00{}",         # no op
    os.urandom(4096),
])
def test_garbage_is_answered_by_an_error_and_counted(server, sent):
    with wire.connect() as sock:
        sock.sendall(sent)
        assert "error" in wire.receive(sock)[0]
    assert server.rejected == 1
    assert still_serves()


@pytest.mark.parametrize("sent", [b"", b"nfq1", b"nfq1\x40\x00\x00\x00\x00\x00\x00\x00{"])
def test_client_that_goes_away_in_its_request(server, sent):
    with wire.connect() as sock:
        sock.sendall(sent)
    assert still_serves()


def test_client_that_goes_away_when_asked(server):
    with wire.connect() as sock:
        wire.send(sock, {"op": "echo", "wanted": 0, "path": "x"})
        wire.receive(sock)
    assert still_serves()
    assert server.lines == []


def test_client_that_sends_nothing_is_let_go(server, monkeypatch):
    monkeypatch.setattr(limits, "CONTROL_REQUEST_SECONDS", 0.2)
    with wire.connect() as sock:
        sock.settimeout(3)
        assert "error" in wire.receive(sock)[0]


def test_silent_clients_beyond_the_bound_wait_and_are_served(server, monkeypatch):
    """More clients than slots: the next is accepted as soon as one of them has timed out."""
    monkeypatch.setattr(limits, "CONTROL_REQUEST_SECONDS", 0.5)
    silent = [wire.connect() for _ in range(limits.CONTROL_CLIENTS)]
    try:
        started = time.monotonic()
        assert still_serves()
        assert time.monotonic() - started < 5
    finally:
        for sock in silent:
            sock.close()


def test_bug_in_a_handler_is_reported_and_does_not_end_the_daemon(server):
    assert "ZeroDivisionError" in talk({"op": "broken"})[-1][0]["error"]
    assert "ZeroDivisionError" in server.lines[0]
    assert still_serves()


def test_socket_is_private(server):
    assert os.stat(os.path.join(server.directory, "control")).st_mode & 0o777 == 0o600
    assert os.stat(server.directory).st_mode & 0o777 == 0o700


def test_one_daemon_per_place(server):
    second = Server(server.directory, {})
    assert not second.claim()
    server.close()
    assert second.claim()
    second.close()


def test_socket_left_by_a_killed_daemon_is_replaced():
    directory = wire.daemon_directory()
    os.makedirs(directory)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.path.join(directory, "control"))
    with pytest.raises(ConnectionRefusedError):
        wire.connect()
    server = Server(directory, {"echo": echo})
    assert server.claim()
    server.listen()
    assert still_serves()
    server.close()
    assert not os.path.exists(directory)


def as_nobody(action):
    """Exit status 0 if `action()` is true in a child of another user."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            status = 0 if action() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def open_the_way(directory):
    """Let other users reach what is in a daemon's directory."""
    for path in (directory, os.path.dirname(directory)):
        os.chmod(path, 0o711)


@needs_root
def test_other_user_cannot_connect(server):
    open_the_way(server.directory)

    def action():
        with pytest.raises(PermissionError):
            wire.connect()
        return True

    assert as_nobody(action) == 0


@needs_root
def test_other_user_is_refused_even_with_a_writable_socket(server):
    path = os.path.join(server.directory, "control")
    open_the_way(server.directory)
    os.chmod(path, 0o666)

    def action():
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            wire.send(sock, {"op": "echo", "wanted": 0})
            return "may not" in wire.receive(sock)[0]["error"]

    assert as_nobody(action) == 0
    assert server.rejected == 1


@needs_root
def test_client_does_not_speak_to_another_users_daemon():
    directory = wire.daemon_directory()
    os.makedirs(directory)
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.chown(directory, NOBODY, NOBODY)
            open_the_way(directory)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(os.path.join(directory, "control"))
                sock.listen()
                os.write(told, b"x")
                time.sleep(5)
        finally:
            os._exit(0)
    try:
        os.read(ready, 1)
        with pytest.raises(PermissionError, match="belongs to user"):
            wire.connect()
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(told)


def test_many_clients_at_once(server):
    results = []
    threads = [threading.Thread(target=lambda: results.append(still_serves())) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == [True] * 100
