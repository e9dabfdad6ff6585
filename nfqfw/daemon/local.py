"""Applet commands in the client's own process: on a state file, or on the empty ruleset of a namespace without a daemon."""

from __future__ import annotations

import os
from collections.abc import Mapping

from nfqfw.applet_client import converse
from nfqfw.daemon import wire
from nfqfw.daemon.applets import run_applet
from nfqfw.daemon.start import start_daemon
from nfqfw.daemon.terminal import Terminal, complain
from nfqfw.errors import NfqfwError
from nfqfw.files import replace_file
from nfqfw.rules.model import Ruleset
from nfqfw.rules.store import FileStore, MemoryStore

AUTOSTARTED = '{"autostarted":true}'
RESOURCE_PROBLEM = 4


def on_state_file(path: str, tool: str, argv: list[str], terminal: Terminal) -> int:
    """Run the command on FILE and FILE.v6; its exit code."""
    if tool == "conntrack":
        complain("conntrack: NFQFW_STATE names a saved ruleset, which has no connections")
        return 1
    try:
        store = FileStore(path)
        if tool == "nfct":
            return nfct_on_file(path + ".nfct", argv, store, terminal)
        store.policies = policies_of_file(path + ".nfct")
        return run_applet(tool, argv, store, terminal)
    except NfqfwError as error:
        complain(f"{tool}: NFQFW_STATE: {error}")
        return RESOURCE_PROBLEM


def policies_of_file(path: str):
    """The time-out policies of a state file, a PolicyList; None if it has none of its own: CT rules may then name any."""
    if not os.path.exists(path):
        return None
    from nfqfw.conntrack import nfct
    from nfqfw.conntrack.timeouts import PolicyList
    policies = PolicyList()
    nfct.load_file(path, policies)
    return policies


def nfct_on_file(path: str, argv: list[str], store: FileStore, terminal: Terminal) -> int:
    """Run nfct on the policies of a state file, which is replaced if they change; settings (default-set) are not kept in one."""
    from nfqfw.conntrack import nfct
    from nfqfw.conntrack.timeouts import PolicyList
    from nfqfw.daemon.flows import show
    from nfqfw.ext.timeouts import policies_of
    with store.transaction(True):
        policies = policies_of_file(path) or PolicyList()
        before, tunables = policies.list(), list(policies.tunables)
        in_use = {name for family in (2, 10) for table in store.ruleset(family).tables.values() if table.name == "raw"
                  for chain in table.chains.values() for name in policies_of(chain.rules)}
        result = nfct.run(argv, policies, in_use)
        if policies.tunables != tunables:
            complain("nfct: NFQFW_STATE names a saved ruleset, which has no settings")
            return 1
        if policies.list() != before:
            replace_file(path, nfct.run(["--save"], policies).stdout)
    return show(result, terminal)


class DaemonNeeded(BaseException):
    """The command changes something: it needs a daemon to keep it.  Not an Exception: the command must not handle it."""


class EmptyStore(MemoryStore):
    """The Store of a namespace where no daemon runs: everything is empty, and it can only stay so."""

    policies: Mapping = {}

    def commit(self, changed: dict[int, Ruleset], counted: bool = False) -> dict[int, Ruleset]:
        if not all(map(is_pristine, changed.values())):
            raise DaemonNeeded
        return super().commit(changed, counted)


class NoFlows:
    """The flow table of a namespace where no daemon runs: empty, and it can only stay so."""

    count = 0

    def list(self, **_) -> list:
        return []

    def stats(self) -> dict[str, int]:
        from nfqfw.conntrack.stats import STATS
        return dict.fromkeys(STATS, 0)

    def flush(self, portid=0) -> None:
        pass

    def insert(self, entry, now_ns=None, portid=0) -> None:
        raise DaemonNeeded

    def expectations(self, now_ns=None) -> list:
        return []

    def expect_find(self, expectation, now_ns) -> None:
        return None

    def expect(self, expectation, now_ns=None) -> None:
        raise LookupError("master conntrack not found")


def on_no_flows(argv: list[str], terminal: Terminal) -> int:
    from nfqfw.daemon.flows import run_conntrack
    result = run_conntrack(argv, NoFlows(), terminal)
    if result.follow is not None:
        raise DaemonNeeded
    return result.code


def on_no_policies(argv: list[str], terminal: Terminal) -> int:
    from nfqfw.conntrack import nfct
    from nfqfw.conntrack.timeouts import PolicyList
    from nfqfw.daemon.flows import show

    class NoPolicies(PolicyList):
        """The time-out policies of a namespace where no daemon runs: none, and there can only be none."""

        def add(self, policy) -> None:
            raise DaemonNeeded

        def set_defaults(self, tracker, seconds) -> None:
            raise DaemonNeeded

    return show(nfct.run(argv, NoPolicies()), terminal)


def is_pristine(ruleset: Ruleset) -> bool:
    """True if the ruleset has no rule, no user chain and only policies ACCEPT: what a namespace without a daemon has."""
    return all(chain.policy == "ACCEPT" and not chain.rules for table in ruleset.tables.values() for chain in table.chains.values())


def without_daemon(tool: str, argv: list[str], terminal: Terminal) -> int:
    """Answer as an empty ruleset would; a command that changes it starts a daemon, unless NFQFW_AUTOSTART=0."""
    try:
        if tool == "conntrack":
            return on_no_flows(argv, terminal)
        if tool == "nfct":
            return on_no_policies(argv, terminal)
        return run_applet(tool, argv, EmptyStore(), terminal)
    except DaemonNeeded:
        return through_new_daemon(tool, argv, terminal)


def through_new_daemon(tool: str, argv: list[str], terminal: Terminal) -> int:
    if os.environ.get("NFQFW_AUTOSTART") == "0":
        complain(f"{tool}: no nfqfw daemon runs in this network namespace, and NFQFW_AUTOSTART=0 forbids to start one "
                 "(start it with nfqfw up -b)")
        return RESOURCE_PROBLEM
    try:
        start_daemon(["--options", AUTOSTARTED])
        sock = wire.connect()
    except (NfqfwError, OSError) as error:
        complain(f"{tool}: cannot start nfqfw: {error}")
        return RESOURCE_PROBLEM
    return converse(sock, tool, argv, terminal)
