"""One run of the demo: build the lab, start nfqfw in its firewall, ask every question, gather what nfqfw saw.

Nothing outlives the process: namespaces are anonymous, everything started in them belongs to a pid namespace that dies with
the lab (see netns/).  `keep` names the namespaces, for a look around afterwards.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from netns import Lab
from nfqfw.demo.expectations import EXPECTATIONS, Expectation
from nfqfw.demo.traffic import Servers
from nfqfw.errors import NfqfwError

START_SECONDS = 20.0            # nfqfw run must say that it filters within this time
STOP_SECONDS = 20.0             # and end within this time after SIGINT
LINES_KEPT = 50
READY = "nfqfw: filtering"      # how the line begins by which `nfqfw run` says so


@dataclass(slots=True)
class Observation:
    """An expectation and what was seen, once per round."""
    expectation: Expectation
    seen: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return bool(self.seen) and all(word == self.expectation.expected for word in self.seen)

    @property
    def observed(self) -> str:
        """The word, or the first that was not expected."""
        return next((word for word in self.seen if word != self.expectation.expected), self.expectation.expected if self.seen else "")


@dataclass(slots=True)
class Result:
    """What the demo found.  `totals` is what `nfqfw run --json` printed (see report/totals.py); seconds are wall clock."""
    observations: list[Observation]
    totals: dict
    rounds: int
    seconds: float
    namespaces: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(observation.ok for observation in self.observations)


def ruleset(version: int) -> Path:
    """The packaged ruleset of IPv4 or IPv6."""
    return Path(str(resources.files("nfqfw") / "data" / f"demo.v{version}"))


class NfqfwFirewall:
    """`nfqfw run` in the firewall's namespace: the program a user would start there."""

    def __init__(self, host) -> None:
        self.host = host
        self.process: subprocess.Popen | None = None
        self.said: deque[str] = deque(maxlen=LINES_KEPT)        # latest lines of its standard error: LOG rules, complaints
        self.reader: threading.Thread | None = None

    def start(self) -> None:
        argv = [sys.executable, "-m", "nfqfw", "run", str(ruleset(4)), "--rules6", str(ruleset(6)), "--json"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUNBUFFERED": "1"}
        self.process = self.host.popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                       env=environment)
        said = read_until(self.process.stderr, READY, START_SECONDS)
        if READY not in said:
            self.process.kill()
            raise NfqfwError("nfqfw did not start in the demo's firewall:\n  " + (said.strip() or "it said nothing").replace("\n", "\n  "),
                             "nfqfw doctor says what this machine lacks")
        self.reader = threading.Thread(target=self.read, name="demo-stderr", daemon=True)
        self.reader.start()

    def read(self) -> None:
        """Nobody may wait for us to read: a full pipe would stop the one who logs."""
        for line in self.process.stderr:
            self.said.append(line)

    def finish(self) -> dict:
        """Stop it as Ctrl-C would; its totals."""
        self.process.send_signal(signal.SIGINT)
        watchdog = threading.Timer(STOP_SECONDS, self.process.kill)
        watchdog.start()
        out = self.process.stdout.read()
        code = self.process.wait()
        watchdog.cancel()
        self.reader.join(1)
        if code != 0:
            why = f"did not end within {STOP_SECONDS:.0f} s" if code == -signal.SIGKILL else f"ended with {code}"
            raise NfqfwError(f"nfqfw run {why}:\n  " + "  ".join(self.said).strip())
        return json.loads(out)


def read_until(stream, word: str, seconds: float) -> str:
    """What the stream says until a line begins with `word`, it ends, or the time is over."""
    end, text = time.monotonic() + seconds, ""
    descriptor = stream.fileno()
    while word not in text and (left := end - time.monotonic()) > 0:
        if select.select([descriptor], [], [], left)[0]:
            chunk = os.read(descriptor, 4096).decode(errors="replace")
            if not chunk:
                break
            text += chunk
    return text


@contextmanager
def terminated_as_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does, so that the lab is taken down."""
    def interrupt(*_):
        raise KeyboardInterrupt
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def address_of(lab: Lab, asker: str, asked: str, family: int) -> str:
    """Address under which one host of the lab reaches another; the firewall by its side of the asker's link."""
    interface = "eth1" if (asker, asked) == ("server", "firewall") else "eth0"
    return lab.host(asked).address(family, interface)


def ask(lab: Lab, observations: list[Observation]) -> None:
    for observation in observations:
        e = observation.expectation
        observation.seen.append(e.probe(lab.host(e.asker), address_of(lab, e.asker, e.asked, e.family)))


def run(duration: float = 0.0, keep: bool = False, firewall=NfqfwFirewall, progress=lambda text: None) -> Result:
    """Run the demo for at least one round and `duration` seconds.  `firewall` makes the thing under test from the firewall's host."""
    started = time.monotonic()
    observations = [Observation(e) for e in EXPECTATIONS]
    with terminated_as_interrupt(), Lab(keep=keep) as lab:
        progress("three namespaces are up: client, firewall, server")
        with Servers(lab.server, lab.client):
            under_test = firewall(lab.firewall)
            under_test.start()
            progress("nfqfw filters in the firewall; asking")
            rounds, end = 0, time.monotonic() + duration
            while rounds == 0 or time.monotonic() < end:
                ask(lab, observations)
                rounds += 1
            totals = under_test.finish()
        names = [f"{lab.prefix}-{name}" for name in lab.hosts] if keep else []
    return Result(observations, totals, rounds, time.monotonic() - started, names)
