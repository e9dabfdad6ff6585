"""The control role: holds the rulesets, runs applet commands on them one at a time."""

from __future__ import annotations

from nfqfw.compile import compile_rulesets
from nfqfw.daemon import applets
from nfqfw.daemon.deferred import run_deferred
from nfqfw.daemon.live import Evaluator, LiveStore
from nfqfw.daemon.server import Session
from nfqfw.rules.model import Ruleset


class Control:
    """Serves the "applet" requests of the control socket on one LiveStore."""

    def __init__(self, evaluator: Evaluator, compile_rulesets=compile_rulesets, run=applets.run) -> None:
        self.store = LiveStore(evaluator, compile_rulesets)
        self.run = run

    def commit(self, *rulesets: Ruleset) -> None:
        """Put checked rulesets in force."""
        with self.store.transaction(True):
            self.store.commit({ruleset.family: ruleset for ruleset in rulesets})

    def applet(self, session: Session, head: dict) -> int:
        """Run the command of one client and print what it says; its exit code."""
        tool, argv, environment = head.get("name"), head.get("argv"), head.get("env")
        if not isinstance(tool, str) or not isinstance(argv, list) or not all(isinstance(word, str) for word in argv):
            raise ValueError("a request needs a name and a list of words")
        environment = environment if isinstance(environment, dict) else {}
        result = run_deferred(lambda io: self.run(tool, argv, self.store, io, environment), session)
        return applets.deliver(result, session)
