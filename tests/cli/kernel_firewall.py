"""The kernel's own iptables in place of nfqfw: what the demo expects must hold there first."""

import os
import re
import shutil
import tempfile

from nfqfw.demo.show import ruleset

RULE = re.compile(r"\[(\d+):(\d+)\] -A (\S+) (.*)")
POLICY = re.compile(r":(\S+) (ACCEPT|DROP) \[(\d+):(\d+)\]")


class KernelFirewall:
    """Same interface as nfqfw.demo.show.NfqfwFirewall; the totals have the keys that the demo's report reads."""

    def __init__(self, host) -> None:
        self.host = host
        self.lock = tempfile.NamedTemporaryFile(prefix="xtables-lock-")
        self.env = os.environ | {"XTABLES_LOCKFILE": self.lock.name}

    def start(self) -> None:
        for program, version in (("iptables", 4), ("ip6tables", 6)):
            self.host.run([f"{program}-legacy-restore"], input=ruleset(version).read_text(), env=self.env, check=True)

    def finish(self) -> dict:
        rules = []
        for program, family in (("iptables", 4), ("ip6tables", 6)):
            saved = self.host.run([f"{program}-legacy-save", "-c", "-t", "filter"], env=self.env, check=True).stdout
            for packets, octets, chain, text in RULE.findall(saved):
                rules.append({"family": family, "table": "filter", "chain": chain, "rule": text, "packets": int(packets), "bytes": int(octets)})
            for chain, policy, packets, octets in POLICY.findall(saved):
                rules.append({"family": family, "table": "filter", "chain": chain, "policy": policy, "packets": int(packets), "bytes": int(octets)})
        connections = []
        if shutil.which("conntrack"):
            for family in ("ipv4", "ipv6"):
                connections += self.host.run(["conntrack", "-L", "-f", family]).stdout.splitlines()
        return {"rules": rules, "connections": connections}
