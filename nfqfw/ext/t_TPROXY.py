"""target TPROXY: gives the packet to a local socket, which a verdict cannot."""

from __future__ import annotations

from nfqfw.errors import RuleError
from nfqfw.ext import names
from nfqfw.ext.api import PREROUTING, KernelRefusal, Only, Opt, target
from nfqfw.ext.lowering import Unevaluated
from nfqfw.protocols import TCP, UDP


@target("TPROXY", Opt("on-port", "own", required=True, key="port", metavar="port", help="port of the socket; 0: the packet's"),
        Opt("on-ip", "host", key="ip", metavar="ip", help="address of the socket"),
        Opt("tproxy-mark", "mark", key="mark", metavar="value[/mask]", help="mark for the packet"),
        only=Only(tables=("mangle",), hooks=(PREROUTING,)))
class Tproxy:
    def read_port(self, draft, opt, text, env):
        port = names.unsigned(text, 0, 65535)
        if port is None:
            port = env.resolver.port(text, None)
        if port is None:
            raise RuleError(f'Port "{text}" does not resolve to anything.\n')
        draft.values["port"] = port

    def final(self, draft, env):
        draft.values.setdefault("ip", names.ZEROS[env.family])
        draft.values.setdefault("mark", (0, 0))

    def save(self, use):
        value, mask = use.values["mark"]
        return f" --on-port {use.values['port']} --on-ip {names.address_text(use.values['ip'])} --tproxy-mark {value:#x}/{mask:#x}"

    def show(self, use, numeric, resolver):
        value, mask = use.values["mark"]
        return f"TPROXY redirect {names.address_text(use.values['ip'])}:{use.values['port']} mark {value:#x}/{mask:#x}"

    def check(self, use, rule):
        if rule.protocol not in (TCP, UDP) or rule.protocol_inverted:
            raise KernelRefusal("EINVAL", "Can be used only with -p tcp or -p udp")

    def lower(self, use, rule):
        return Unevaluated("not possible: a verdict cannot give a packet to a socket")
