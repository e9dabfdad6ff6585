"""target CLUSTERIP: removed from the kernel; read and printed, and refused as a kernel without it does."""

from __future__ import annotations

from nfqfw.errors import RuleError
from nfqfw.ext.api import KernelRefusal, Opt, target

MODES = ("sourceip", "sourceip-sourceport", "sourceip-sourceport-destport")


@target("CLUSTERIP", Opt("new", help="make a new cluster address"),
        Opt("hashmode", "own", metavar="mode", help=" ".join(MODES)),
        Opt("clustermac", "mac", metavar="mac", help="MAC address of the cluster"),
        Opt("total-nodes", "u16", low=1, high=16, key="total", metavar="num", help="nodes in the cluster"),
        Opt("local-node", "u16", low=0, high=16, key="local", metavar="num", help="this node"),
        Opt("hash-init", "u32", key="init", metavar="num", help="seed of the hash"), families=(2,))
class Clusterip:
    def read_hashmode(self, draft, opt, text, env):
        if text not in MODES:
            raise RuleError(f'Unknown hashmode "{text}"\n')
        draft.values["hashmode"] = text

    def check(self, use, rule):
        raise KernelRefusal("ENOENT", "this kernel has no CLUSTERIP target")
