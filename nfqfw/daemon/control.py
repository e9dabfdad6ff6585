"""The control role: holds the rulesets, runs applet commands on them one at a time."""

from __future__ import annotations

import json

from nfqfw.compile import compile_rulesets
from nfqfw.daemon.applets import run_applet
from nfqfw.daemon.flows import show
from nfqfw.daemon.live import Evaluator, LiveStore
from nfqfw.daemon.server import Session
from nfqfw.rules import check
from nfqfw.rules.model import Ruleset


class Control:
    """Serves the "applet" requests of the control socket on one LiveStore."""

    def __init__(self, evaluator: Evaluator, compile_rulesets=compile_rulesets) -> None:
        self.store = LiveStore(evaluator, compile_rulesets)

    def commit(self, *rulesets: Ruleset) -> None:
        """Put checked rulesets in force.  RuleErrors, NfqfwError, OSError."""
        with self.store.transaction(True):
            for ruleset in rulesets:
                check(ruleset, ["raw"], self.store.policies)        # what only the daemon knows: the time-out policies
            self.store.put({ruleset.family: ruleset for ruleset in rulesets})

    def applet(self, session: Session, head: dict) -> int:
        """Run the command of one client; its exit code."""
        tool, argv = head.get("name"), head.get("argv")
        if not isinstance(tool, str) or not isinstance(argv, list) or not all(isinstance(word, str) for word in argv):
            session.tell({"error": "a request needs a name and a list of words"})
            return 2
        if tool == "conntrack":
            return self.store.evaluator.flows.conntrack(argv, session)
        if tool == "nfct":
            with self.store.transaction(True):
                result = self.store.evaluator.flows.nfct(argv, self.store.policies_used())
            return show(result, session)
        return run_applet(tool, argv, self.store, session)

    def sysctl(self, session: Session, head: dict) -> int:
        """Set and read the settings of connection tracking."""
        changes = head.get("set")
        if not isinstance(changes, dict) or not all(isinstance(value, int) for value in changes.values()):
            session.tell({"error": "a request needs settings and their numbers"})
            return 2
        try:
            values = self.store.evaluator.flows.settings(changes)
        except ValueError as error:
            session.tell({"error": str(error)})
            return 2
        session.print(1, json.dumps(values).encode())
        return 0
