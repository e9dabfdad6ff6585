"""target NETMAP: one network onto another, host for host."""

from __future__ import annotations

from nfqfw.errors import RuleError
from nfqfw.ext import names, natrange
from nfqfw.ext.api import INPUT, OUTPUT, POSTROUTING, PREROUTING, Only, Opt, target


@target("NETMAP", Opt("to", "own", required=True, metavar="address[/mask]", help="the network to map to"),
        only=Only(("nat",), (PREROUTING, INPUT, OUTPUT, POSTROUTING)))
class Netmap:
    def read_to(self, draft, opt, text, env):
        host, slash, mask_text = text.partition("/")
        mask = names.parse_mask(mask_text, env.family) if slash else names.ALL_ONES[env.family]
        if mask is None or names.prefix_length(mask) is None:
            if env.family == 10:
                raise RuleError('NETMAP: bad value for option "--to", neither a valid network mask nor valid CIDR (0-128).\n')
            mask = names.ALL_ONES[env.family]           # iptables 1.8.9 takes a mask that it cannot read for the whole address
        address = names.parse_host(host, env.family, env.resolver)[0]
        draft.values["to"] = names.masked(address, mask), mask

    def text(self, use) -> str:
        address, mask = use.values["to"]
        return names.address_text(address) + names.mask_suffix(mask, always=True)

    def save(self, use):
        return f" --to {self.text(use)}"

    def show(self, use, numeric, resolver):
        return f"to:{self.text(use)}"

    def lower(self, use, rule):
        address, mask = use.values["to"]
        last = bytes(a | ~m & 0xFF for a, m in zip(address, mask))
        family = 2 if len(address) == 4 else 10
        return natrange.action(natrange.NETMAP, family, natrange.MAP_IPS, address, last, reroutes=True)
