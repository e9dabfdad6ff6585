"""The daemon of a network namespace: control role and evaluator in one process, from claim to clean end.

Overview: claim the namespace (one daemon each), put the given rules in force, open the control socket, say "ready", then wait for
a signal, a `down`, or (when a command started us) for the namespace to be left.  The end is the reverse: no more commands,
detach, drain, go.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from nfqfw import limits
from nfqfw.daemon import wire
from nfqfw.daemon.control import Control
from nfqfw.daemon.idle import netns_in_use
from nfqfw.daemon.logs import FileLog, background_lines, print_lines, to_stderr
from nfqfw.daemon.server import Server, Session
from nfqfw.errors import NfqfwError

HOST_PROBLEM = 4
JOIN_SECONDS = 2                # a `down` that is being answered when we end


@dataclass(frozen=True)
class Options:
    """How to run; the same for `run`, `up` and an autostarted daemon."""

    queue: int = 0              # number of the first NFQUEUE
    queues: int = 1             # threads, one queue each
    transport: str = "nfnetlink"
    exact: bool = False         # attach every hook (design.md section 5)
    trace: bool = False
    autostarted: bool = False   # end by ourselves when the namespace is left
    settings: dict[str, int] = field(default_factory=dict)      # nf_conntrack_*, checked


class Daemon:
    """One daemon.  `rules4` and `rules6` are checked Rulesets or None; `evaluator` is for tests.

    `log` takes what we have to say ourselves, `on_lines(kind, lines)` the text of LOG rules and traced packets.  `policies`: a file of
    nfct commands that are run first.
    """

    def __init__(self, rules4=None, rules6=None, options: Options = Options(), evaluator=None,
                 log: Callable[[str], None] | None = None, on_lines: Callable[[str, list[str]], None] | None = None,
                 policies: os.PathLike | None = None) -> None:
        self.options = options
        self.log = log or to_stderr
        self.evaluator = evaluator if evaluator is not None else make_evaluator(options, on_lines or print_lines)
        self.control = Control(self.evaluator)
        if policies is not None:
            self.evaluator.flows.load_policies(policies)
        self.initial = [rules for rules in (rules4, rules6) if rules is not None]
        self.server = Server(wire.daemon_directory(), {
            "applet": self.control.applet, "sysctl": self.control.sysctl, "status": self.status, "down": self.down}, self.log)
        self.wanted_end = threading.Event()
        self.ended = threading.Event()
        self.started = time.time()

    def claim_or_find(self) -> bool:
        """True if we are the daemon of this namespace now, False if another one is and serves.

        One that has claimed the place but does not yet, or no longer, serve is waited for.
        """
        deadline = time.monotonic() + limits.DAEMON_START_SECONDS
        while not self.server.claim():
            try:
                wire.connect().close()
                return False
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        return True

    def serve(self, ready: Callable[[], None] = lambda: None) -> dict:
        """Run until told to end; returns the totals.  NfqfwError (nothing left behind) if it cannot start."""
        gc.set_threshold(100_000, 50, 100)              # rulesets are millions of long-lived objects without cycles
        if self.server.lock_fd < 0 and not self.server.claim():
            raise NfqfwError(f"a daemon already runs in this network namespace{self.other()}",
                             "change its rules with nfqfw iptables, or end it with nfqfw down", HOST_PROBLEM)
        try:
            if self.initial:
                self.control.commit(*self.initial)
            self.server.listen()
            self.on_signals()
            ready()
            self.wait()
            self.evaluator.stop()               # first: what waits in the queues is judged, and counts
            return self.totals()
        finally:
            self.evaluator.stop()
            self.ended.set()
            self.server.close()
            self.join_sessions()

    def end(self) -> None:
        """Ask `serve` to return; from any thread."""
        self.wanted_end.set()

    def wait(self) -> None:
        """Until somebody wants the end, or an autostarted daemon has seen twice that nobody needs it."""
        unused = 0
        while not self.wanted_end.wait(limits.IDLE_CHECK_SECONDS):
            self.upkeep()
            if self.options.autostarted:
                unused = 0 if netns_in_use(frozenset((os.getpid(),))) else unused + 1
                if unused == 2:
                    return

    def upkeep(self) -> None:
        """The evaluator's regular work.  Whatever goes wrong there, the daemon stays: its end would let everything pass."""
        try:
            failure = self.evaluator.check()
            self.control.store.settle()
        except Exception:
            self.log(traceback.format_exc())
            return
        if failure is not None:
            self.log(f"nfqfw: a queue thread has ended, its packets are dropped until nfqfw is started again: {failure!r}")

    def on_signals(self) -> None:
        """SIGINT and SIGTERM end the daemon in order; a second one ends it at once (Python's own handler)."""
        if threading.current_thread() is not threading.main_thread():
            return

        def handler(number, frame):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            self.end()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, handler)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if self.options.autostarted else handler)

    def join_sessions(self) -> None:
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in threading.enumerate():
            if thread.name == "client":
                thread.join(max(0, deadline - time.monotonic()))

    # ---- requests -----------------------------------------------------------------------------------------------------

    def status(self, session: Session, head: dict) -> int:
        session.print(1, json.dumps(self.totals()).encode())
        return 0

    def down(self, session: Session, head: dict) -> int:
        """Answered when everything is detached."""
        self.end()
        self.ended.wait(limits.CONTROL_ANSWER_SECONDS)
        return 0

    def totals(self) -> dict:
        """Figures of this run: report.totals' form, and what `status` adds."""
        from nfqfw.report.totals import totals
        store = self.control.store
        with store.transaction(False):
            figures = totals(store.rulesets.values(), store.counts(), self.evaluator.stats(), self.evaluator.connections())
        return figures | {"daemon": {
            "pid": os.getpid(), "uptime_seconds": round(time.time() - self.started, 1), "autostarted": self.options.autostarted,
            "socket": os.path.join(self.server.directory, "control"), "rejected_clients": self.server.rejected,
            "generation": store.generation, **self.evaluator.status()}}

    def other(self) -> str:
        """Which process is in our place, for the error text."""
        try:
            with wire.connect() as sock:
                return f" (process {wire.peer(sock)[0]})"
        except OSError:
            return ""


def make_evaluator(options: Options, on_lines: Callable[[str, list[str]], None]):
    from nfqfw.daemon.evaluator import LiveEvaluator
    return LiveEvaluator(options, on_lines)


def load_rules(path: str | None, family: int):
    """Checked Ruleset of an iptables-save file; None for None."""
    if path is None:
        return None
    from nfqfw.rules import check, load
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        ruleset = load(file.read(), path, family)
    check(ruleset)
    return ruleset


def main(argv: list[str]) -> int:
    """A background daemon: what `nfqfw.daemon.start` runs.  Tells its starter through --ready-fd."""
    parser = argparse.ArgumentParser(prog="nfqfw-daemon")
    parser.add_argument("--options", type=json.loads, default={})
    parser.add_argument("--rules4")
    parser.add_argument("--rules6")
    parser.add_argument("--nfct")
    parser.add_argument("--ready-fd", type=int, required=True)
    given = parser.parse_args(argv)

    def tell(text: str) -> None:
        os.write(given.ready_fd, text.encode(errors="replace"))
        os.close(given.ready_fd)

    ready = False

    def on_ready() -> None:
        nonlocal ready
        ready = True
        os.chdir("/")
        tell("ready")

    os.set_inheritable(given.ready_fd, False)
    try:
        rules = load_rules(given.rules4, 2), load_rules(given.rules6, 10)
        log = FileLog()
        daemon = Daemon(*rules, options=Options(**given.options), log=log, on_lines=background_lines(log), policies=given.nfct)
        if daemon.options.autostarted and not daemon.claim_or_find():
            tell("ready")                               # two commands started a daemon at once: the other one serves
            return 0
        daemon.serve(on_ready)
    except Exception as error:
        if ready:
            raise
        named = isinstance(error, OSError) and error.filename
        tell(f"{error.filename}: {error.strerror}" if named else str(error))
        return HOST_PROBLEM
    return 0
