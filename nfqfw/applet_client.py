"""The applets' client: iptables, iptables-save, ... as a program that starts fast and asks the daemon.

Where the command runs:

    NFQFW_STATE=FILE            here, on that file (daemon/local.py); no daemon, no root
    a daemon in this namespace  there: we send the arguments, open files and resolve names for it, print what it says
    none                        here, on an empty ruleset; if the command changes it, a daemon is started and asked instead

Nothing is imported before it is needed: bare Python starts in 15 ms here, and a script may call us five hundred times.
"""

import os
import sys

from nfqfw.daemon import wire
from nfqfw.daemon.terminal import NobodyReads, Terminal, complain

MULTI = {"main4": "iptables", "save4": "iptables-save", "restore4": "iptables-restore",
         "main6": "ip6tables", "save6": "ip6tables-save", "restore6": "ip6tables-restore"}
TOOLS = frozenset(MULTI.values()) | {"conntrack", "nfct"}
RESOURCE_PROBLEM = 4            # what iptables exits with when it cannot get at the tables
DAEMON_GONE = "nfqfw: the daemon ended before it answered; whether the command took effect is not known"


def main(name: str, argv: list[str]) -> int:
    """Run the applet `name` with the arguments after it; the exit code is the tool's."""
    try:
        return run(name, argv)
    except NobodyReads:
        return die_of("SIGPIPE")
    except KeyboardInterrupt:
        return die_of("SIGINT")


def run(name: str, argv: list[str]) -> int:
    tool, argv = tool_of(name, argv)
    if tool is None:
        complain("ERROR: No valid subcommand given.\nValid subcommands:\n" + "\n".join(f" * {name}" for name in MULTI.values()))
        return 1
    terminal = Terminal()
    if os.environ.get("NFQFW_STATE"):
        from nfqfw.daemon.local import on_state_file
        return on_state_file(os.environ["NFQFW_STATE"], tool, argv, terminal)
    try:
        sock = wire.connect()
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        from nfqfw.daemon.local import without_daemon
        return without_daemon(tool, argv, terminal)
    except OSError as error:
        return refused(error)
    return converse(sock, tool, argv, terminal)


def tool_of(name: str, argv: list[str]) -> tuple[str | None, list[str]]:
    """(canonical tool, its arguments): -legacy forms are the same tool, xtables-legacy-multi names it in its first argument."""
    if name == "xtables-legacy-multi":
        if not argv:
            return None, argv
        name, argv = argv[0], argv[1:]
    name = MULTI.get(name, name.replace("-legacy", ""))
    return (name if name in TOOLS else None), argv


def converse(sock: wire.socket.socket, tool: str, argv: list[str], terminal: Terminal) -> int:
    """Have the daemon run the command, serve its questions, print its output; returns the exit code."""
    sock.settimeout(wire.limits.CONTROL_ANSWER_SECONDS)
    try:
        wire.send(sock, {"op": "applet", "name": tool, "argv": argv})
        while True:
            head, body = wire.receive(sock)
            if "code" in head:
                return int(head["code"])
            if "print" in head:
                terminal.print(int(head["print"]), body)
            elif "follow" in head:
                return follow(sock, terminal, head["follow"])
            elif "error" in head:
                complain(f"nfqfw: {head['error']}")
                return RESOURCE_PROBLEM
            else:
                wire.send(sock, *answer(terminal, head, body))
    except (wire.WireError, EOFError, ConnectionError):
        complain(DAEMON_GONE)
        return RESOURCE_PROBLEM
    except TimeoutError:
        complain(f"nfqfw: no answer from the daemon within {wire.limits.CONTROL_ANSWER_SECONDS} s")
        return RESOURCE_PROBLEM
    finally:
        sock.close()


def follow(sock: wire.socket.socket, terminal: Terminal, what: str) -> int:
    """conntrack -E: print what comes until a signal ends us; then say how much it was, as the tool does."""
    import signal

    def end(number, frame):
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    sock.settimeout(None)
    shown = 0
    try:
        while "print" in (message := wire.receive(sock))[0]:
            terminal.print(1, message[1])
            shown += message[1].count(b"\n")
    except KeyboardInterrupt:
        pass
    complain(f"conntrack v1.4.7 (conntrack-tools): {shown} {what} events have been shown.")
    return 0


def answer(terminal: Terminal, head: dict, body: bytes) -> tuple[dict, bytes]:
    """(head, body) that answers one question of the daemon."""
    try:
        if head["ask"] == "read":
            return {"ok": True}, terminal.read(head["path"])
        if head["ask"] == "write":
            terminal.write(head["path"], body)
            return {"ok": True}, b""
        if head["ask"] == "resolve":
            return {"ok": True, "addresses": terminal.resolve(head["name"], head["family"])}, b""
        if head["ask"] == "names":
            return {"ok": True, "names": terminal.names(head["addresses"])}, b""
    except OSError as error:
        return {"ok": False, "errno": error.errno or 5}, b""
    raise wire.WireError(f"unknown question {head['ask']!r}")


def refused(error: OSError) -> int:
    """Say why the daemon cannot be reached, in the words iptables has for its lock file; its exit code."""
    reason = error.strerror or str(error) or "timed out"
    complain(f"Fatal: can't open control socket {wire.daemon_directory()}/control: {reason}")
    return RESOURCE_PROBLEM


def die_of(signal_name: str) -> int:
    """End as a C program does on that signal, so that shells and make see the same."""
    import signal
    number = signal.Signals[signal_name]
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number


if __name__ == "__main__":
    sys.exit(main(os.path.basename(sys.argv[1]), sys.argv[2:]))
