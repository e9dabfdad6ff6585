"""target NFQUEUE: hands the packet to another program's queue."""

from __future__ import annotations

from nfqfw.errors import RuleError
from nfqfw.ext.api import KernelRefusal, Opt, target
from nfqfw.ext.lowering import Unevaluated
from nfqfw.ext.values import TYPES

WHICH = ("queue-num", "queue-balance")


@target("NFQUEUE",
        Opt("queue-num", "u16", key="num", excludes=WHICH, metavar="value", help="queue; 0"),
        Opt("queue-balance", "own", key="balance", excludes=WHICH, metavar="first:last", help="spread flows over these queues"),
        Opt("queue-bypass", key="bypass", help="accept if nobody listens"),
        Opt("queue-cpu-fanout", key="fanout", needs=("queue-balance",), help="choose the queue by CPU"))
class Nfqueue:
    def read_balance(self, draft, opt, text, env):
        low, colon, high = text.partition(":")
        if not colon:
            TYPES["u16:range"].read(text, opt, "NFQUEUE", env)
            raise RuleError(f'Bad range "{text}"')
        if low.isdigit() and high.isdigit() and int(low) >= int(high) and int(low) <= 65535:
            raise RuleError(f"{low} should be less than {high}")
        draft.values["balance"] = TYPES["u16:range"].read(text, opt, "NFQUEUE", env)

    def final(self, draft, env):
        if "balance" not in draft.values:
            draft.values.setdefault("num", 0)

    def parts(self, use, dash: str) -> str:
        values = use.values
        low, high = values.get("balance", (0, 0))
        out = f" {dash}balance {low}:{high}" if "balance" in values else f" {dash}num {values['num']}"
        return out + (f" {dash}bypass" if "bypass" in values else "") + (f" {dash}cpu-fanout" if "fanout" in values else "")

    def save(self, use):
        return self.parts(use, "--queue-")

    def show(self, use, numeric, resolver):
        return "NFQUEUE" + self.parts(use, "")

    def check(self, use, rule):
        if use.values.get("balance") == (0, 65535):
            raise KernelRefusal("EINVAL", "xt_NFQUEUE: number of total queues is 0")

    def lower(self, use, rule):
        return Unevaluated("not evaluated yet: NFQUEUE: needs a verdict that hands packets to another program's queue")
