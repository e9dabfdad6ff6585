"""What the verbs up, down and status do."""

from __future__ import annotations

import json
import os
import shutil

from nfqfw import limits
from nfqfw.daemon import wire
from nfqfw.daemon.start import start_daemon
from nfqfw.errors import NfqfwError

HOST_PROBLEM = 4


def request(operation: str, **more) -> bytes | None:
    """What the daemon of this namespace prints for one request; None if none runs.  NfqfwError: it refuses."""
    try:
        sock = wire.connect()
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        return None
    except OSError as error:
        raise NfqfwError(f"cannot reach the daemon of this namespace: {error.strerror or error}", "run this as root", HOST_PROBLEM) from None
    with sock:
        sock.settimeout(limits.CONTROL_ANSWER_SECONDS)
        try:
            wire.send(sock, {"op": operation, **more})
            printed = b""
            while True:
                head, body = wire.receive(sock)
                if "error" in head:
                    raise NfqfwError(f"the daemon says: {head['error']}", "", HOST_PROBLEM)
                if "code" in head:
                    return printed
                printed += body
        except (EOFError, ConnectionError, wire.WireError):
            if operation == "down":
                return b""
            raise NfqfwError("the daemon ended before it answered", "", HOST_PROBLEM) from None


def daemon_status() -> dict:
    """What `status --json` prints: running, and if so the daemon's totals, else whether something was left behind."""
    answer = request("status")
    if answer is None:
        return {"running": False, "left_behind": left_behind()}
    return {"running": True, **json.loads(answer)}


def end_daemon() -> str:
    """End the daemon, or clean up after a killed one; says in one line what was done."""
    if request("down") is not None:
        return "the daemon of this network namespace has detached and ended"
    found = remove_attachment()
    remove_directory()
    return "removed the queue rules of a killed daemon" if found else "no daemon runs in this network namespace"


def settings(changes: dict[str, int]) -> dict[str, int]:
    """Change settings of connection tracking in the daemon of this namespace; returns all of them."""
    answer = request("sysctl", set=changes)
    if answer is None:
        raise NfqfwError("no daemon runs in this network namespace", "start it with nfqfw up -b", HOST_PROBLEM)
    return json.loads(answer)


def left_behind() -> bool:
    """True if queue rules of ours are in the kernel; False also where we may not look."""
    from nfqfw.attach import find
    try:
        attachment = find()
    except NfqfwError:
        return False
    if attachment is not None:
        attachment.close()
    return attachment is not None


def remove_attachment() -> bool:
    """Take our table out of the kernel; False if there is none."""
    from nfqfw.attach import find
    attachment = find()
    if attachment is None:
        return False
    attachment.detach()
    return True


def remove_directory() -> None:
    """The socket and lock of a killed daemon; a daemon that is just starting keeps its own."""
    from nfqfw.daemon.server import Server
    directory = wire.daemon_directory()
    if os.path.isdir(directory):
        server = Server(directory, {})
        if server.claim():
            shutil.rmtree(directory, ignore_errors=True)
            server.close()


def start_in_background(rules4: str | None, rules6: str | None, options: dict, policies: os.PathLike | None = None) -> None:
    """policies: a file of nfct commands."""
    files = [word for name, path in (("--rules4", rules4), ("--rules6", rules6), ("--nfct", policies)) if path
             for word in (name, os.path.abspath(path))]
    start_daemon(["--options", json.dumps(options), *files])


def run_in_foreground(rules4: str | None, rules6: str | None, options: dict, policies: os.PathLike | None = None) -> None:
    from nfqfw.daemon.service import Daemon, Options, load_rules
    Daemon(load_rules(rules4, 2), load_rules(rules6, 10), Options(**options), policies=policies).serve()
