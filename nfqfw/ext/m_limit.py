"""match limit: average rate with a burst."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import KernelRefusal, Opt, match
from nfqfw.ext.lowering import Test
from nfqfw.ext.names import leading_number

SCALE = 10_000                      # the kernel's unit: ten-thousandths of a second per packet
UNITS = (("second", 1), ("minute", 60), ("hour", 3600), ("day", 86400))
PRINTED = (("day", 86400), ("hour", 3600), ("min", 60), ("sec", 1))
DEFAULT_AVG = 3600 * SCALE // 3     # 3/hour
DEFAULT_BURST = 5
HZ_CREDITS = 250 * 128              # credits per second


def parse_rate(text: str) -> int:
    """`n[/unit]` -> SCALE-ths of a second between two packets; the unit may be abbreviated."""
    number, slash, unit = text.partition("/")
    seconds = 1
    if slash:
        lowered = unit.lower()
        seconds = next((s for word, s in UNITS if lowered and word.startswith(lowered)), 0)
    rate = leading_number(number)
    if not rate or not seconds:
        raise RuleError(f'bad rate "{text}"\'')
    if rate // seconds > SCALE:
        raise RuleError(f'Rate too fast "{text}"')
    return SCALE * seconds // rate


def rate_text(avg: int) -> str:
    """The rate as iptables rounds it back: the smallest unit that a packet's share of it still fits."""
    chosen = PRINTED[0]
    for unit in PRINTED[1:]:
        scaled = unit[1] * SCALE
        if avg > scaled or scaled // avg < scaled % avg:
            break
        chosen = unit
    return f"{chosen[1] * SCALE // avg}/{chosen[0]}"


def credits(avg: int) -> int:
    """The kernel's user2credits: 32-bit arithmetic that divides first where the product would overflow."""
    if avg > 0xFFFFFFFF // HZ_CREDITS:
        return avg // SCALE * HZ_CREDITS & 0xFFFFFFFF
    return avg * HZ_CREDITS // SCALE


@match("limit",
       Opt("limit", "own", metavar="rate[/unit]", help="average rate: packets per second, minute, hour or day; 3/hour"),
       Opt("limit-burst", "u32", high=10_000, key="burst", metavar="number", help="packets that may pass at once; 5"))
class Limit:
    def read_limit(self, draft, opt, text, env):
        draft.values["avg"] = parse_rate(text)

    def final(self, draft, env):
        draft.values.setdefault("avg", DEFAULT_AVG)
        draft.values.setdefault("burst", DEFAULT_BURST)

    def save(self, use):
        burst = use.values["burst"]
        return f" --limit {rate_text(use.values['avg'])}" + (f" --limit-burst {burst}" if burst != DEFAULT_BURST else "")

    def show(self, use, numeric, resolver):
        return f"limit: avg {rate_text(use.values['avg'])} burst {use.values['burst']}"

    def check(self, use, rule):
        avg, burst = use.values["avg"], use.values["burst"]
        if burst == 0 or credits(avg * burst & 0xFFFFFFFF) < credits(avg):
            raise KernelRefusal("ERANGE")

    def lower(self, use, rule):
        avg, burst = use.values["avg"], use.values["burst"]
        cap = credits(avg * burst & 0xFFFFFFFF)
        return [Test("limit", struct.pack("<II", credits(avg), cap), state=struct.pack("<Q", cap))]
