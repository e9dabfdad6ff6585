"""The twin that is Linux: the router with iptables-legacy.

Counters are read by getsockopt, connections by ctnetlink.  Needs root and the real iptables-legacy, beside what the lab needs.
"""

from __future__ import annotations

import subprocess
import time

from nfqfw.selftest.case import Case
from nfqfw.selftest.netlink import Ctnetlink
from nfqfw.selftest.npt import without_quoted
from nfqfw.selftest.outcome import Counters, Outcome, normal_listing
from nfqfw.selftest.packets import IPV4, IPV6
from nfqfw.selftest.router import CLASSED, OracleUnavailable, Router, missing, real_tool
from nfqfw.selftest.xtables import Tables

CLASSES = "\n".join(
    ["table inet classes {"]
    + [f" chain {name} {{ type filter hook {hook} priority -160; policy accept;\n"
       + "\n".join(f"  ct state {state} log prefix \"{state.upper()}\" group {CLASSED} snaplen 0"
                   for state in ("invalid", "new", "established", "related", "untracked")) + "\n }"
       for name, hook in (("arriving", "prerouting"), ("sent", "output"))]
    + ["}"])


class KernelTwin(Router):
    """The router namespace with kernel netfilter.  A context manager; `run(case)` gives the kernel's Outcome."""

    def _build(self) -> None:
        super()._build()
        self.policies: list[str] = []
        for family in (IPV4, IPV6):
            self._restore(family, "")
        if self.classes:
            self._run("nft", CLASSES)
        self.ct = Ctnetlink()
        self.tables = {IPV4: Tables(IPV4), IPV6: Tables(IPV6)}

    def __exit__(self, *exc: object) -> None:
        for thing in (*self.tables.values(), self.ct):
            thing.close()
        super().__exit__(*exc)

    def _restore(self, family: int, rules: str) -> None:
        """Load whole tables; RuntimeError with the tool's words when it refuses."""
        name = "iptables-legacy-restore" if family == IPV4 else "ip6tables-legacy-restore"
        self._run(name, Case(family, rules, []).whole_rules())

    # ---- one case -----------------------------------------------------------------------------------------------

    def run(self, case: Case, states: bool = False) -> Outcome:
        """Load the case's rules, send its packets, read everything; `states` lists connections after every packet."""
        with self.inside():
            self._settings(case.settings)
            self._policies(case.policies)
            self._restore(case.family, case.rules)
            self.log.drain()
            outcome = Outcome()
            for step in case.steps:
                if step.delay >= 0.001:
                    time.sleep(step.delay)
                if step.command:
                    outcome.commands.append(self._command(step.command, step.tool))
                    outcome.steps.append([])
                    outcome.classes += [""] * self.classes
                else:
                    self._step(case, step, outcome)
                if states:
                    outcome.states.append(self.ct.list())
            outcome.steps = without_quoted(case, outcome.steps)
            outcome.counters = self.tables[case.family].read()
            outcome.connections = self.ct.take()
            return outcome

    def _policies(self, wanted: list[str]) -> None:
        """Only these time-out policies; those of the case before go, with the rules that name them."""
        if self.policies:
            for family in (IPV4, IPV6):
                self._restore(family, "")
            self._command("flush timeout", "nfct")
        self.policies = wanted
        for command in wanted:
            said = self._command(command, "nfct")
            if said != normal_listing(0, ""):
                raise RuntimeError(f"nfct {command}: {said}")

    def _command(self, text: str, tool: str = "conntrack") -> str:
        if text.startswith("--proc"):
            with open("/proc/thread-self/net/nf_conntrack" + ("_expect" if "expect" in text else "")) as f:
                return normal_listing(0, f.read())
        done = subprocess.run([real_tool(tool), *text.split()], capture_output=True, text=True, env=self.environment, check=False)
        return normal_listing(done.returncode, done.stdout + done.stderr)

    def counters(self, family: int) -> Counters:
        return self.tables[family].read()


__all__ = ["CLASSED", "KernelTwin", "OracleUnavailable", "missing"]
