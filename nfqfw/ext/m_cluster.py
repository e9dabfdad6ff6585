"""match cluster: one node's share of the connections."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import TRACKED, Test

NODES = ("cluster-local-node", "cluster-local-nodemask")


@match("cluster",
       Opt("cluster-total-nodes", "u32", low=1, high=32, key="total", required=True, metavar="num", help="nodes in the cluster"),
       Opt("cluster-local-node", "u32", low=1, high=32, key="mask", invert=True, excludes=NODES, metavar="num", help="this node"),
       Opt("cluster-local-nodemask", "u32", low=1, key="mask", invert=True, excludes=NODES, metavar="num", help="these nodes, as bits"),
       Opt("cluster-hash-seed", "u32", key="seed", required=True, metavar="num", help="seed of the hash"))
class Cluster:
    def read_mask(self, draft, opt, text, env):
        value = opt.reader(text, opt, "cluster", env)
        draft.values["mask"] = 1 << value - 1 if opt.name == "cluster-local-node" else value

    def finish(self, draft, env):
        from nfqfw.ext.api import Extension
        self.check_relations(draft.seen)
        if "mask" not in draft.values:
            raise RuleError("cluster match: `--cluster-local-node' or`--cluster-local-nodemask' is missing")
        return Extension.finish(self, draft, env)

    def final(self, draft, env):
        if draft.values["mask"] >= 1 << draft.values["total"]:
            node = "cluster-local-node" in draft.seen
            raise RuleError("cluster match: `--cluster-local-node' must be <= `--cluster-total-nodes'" if node else
                            "cluster match: `--cluster-local-nodemask' too big for `--cluster-total-nodes'")

    def save(self, use):
        values = use.values
        return (f"{' !' if 'mask' in use.inverted else ''} --cluster-local-nodemask 0x{values['mask']:08x} "
                f"--cluster-total-nodes {values['total']} --cluster-hash-seed 0x{values['seed']:08x}")

    def show(self, use, numeric, resolver):
        values = use.values
        return (f"cluster {'!' if 'mask' in use.inverted else ''}node_mask=0x{values['mask']:08x} total_nodes={values['total']} "
                f"hash_seed=0x{values['seed']:08x}")

    def lower(self, use, rule):
        values = use.values
        return [Test("cluster", struct.pack("<4I", values["total"], values["mask"], values["seed"], "mask" in use.inverted), features=TRACKED)]
