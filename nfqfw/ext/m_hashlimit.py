"""match hashlimit: a rate for each address or port, in named tables."""

from __future__ import annotations

import re
import struct

from nfqfw.errors import RuleError
from nfqfw.ext import names
from nfqfw.ext.api import KernelRefusal, Opt, match
from nfqfw.ext.lowering import IPV4, IPV6, Named, Test
from nfqfw.limits import HASHLIMIT_BUCKETS, HASHLIMIT_MOST

SCALE = 1_000_000                   # millionths of a second per packet
UNITS = (("second", 1), ("minute", 60), ("hour", 3600), ("day", 86400))
PRINTED = (("day", 86400), ("hour", 3600), ("min", 60), ("sec", 1))
UNIT_OF = {seconds: "/" + name for name, seconds in PRINTED}
BYTE_UNITS = (("kb", 1024), ("mb", 1024 * 1024), ("b", 1))
CHUNK_SHIFT = 4                     # byte rates are kept in 16-byte chunks
MOST_BURST = 1_000_000
DEFAULT_BURST, DEFAULT_GC = 5, 1000
MODES = (("srcip", 2), ("srcport", 8), ("dstip", 1), ("dstport", 4))
BYTES_RATE = re.compile(r"(\d+)(b|kb|mb)/s(?:e(?:c(?:o(?:n(?:d)?)?)?)?)?\Z", re.ASCII | re.IGNORECASE)
BYTES_BURST = re.compile(r"(\d+)(b|kb|mb)?\Z", re.ASCII | re.IGNORECASE)


def parse_rate(text: str, opt) -> int:
    """Millionths of a second between packets."""
    number, slash, unit = text.partition("/")
    seconds = next((s for word, s in UNITS if unit and word.startswith(unit.lower())), 0) if slash else 1
    rate = names.leading_number(number)
    if not rate or not seconds:
        raise RuleError(f'hashlimit: Bad value for "--{opt.name}" option: "{text}"')
    if rate / seconds > SCALE:
        raise RuleError(f'Rate too fast "{text}"\n')
    return SCALE * seconds // rate


def rate_text(period: int) -> str:
    chosen = PRINTED[0]
    for unit in PRINTED[1:]:
        scaled = unit[1] * SCALE
        if period > scaled or scaled // period < scaled % period:
            break
        chosen = unit
    return f"{chosen[1] * SCALE // period}/{chosen[0]}"


def bytes_text(value: int) -> str:
    """A number of bytes in the largest unit that divides it."""
    for unit, size in (("mb", 1024 * 1024), ("kb", 1024)):
        if value >= size and value % size == 0:
            return f"{value // size}{unit}"
    return f"{value}b"


HZ = 250
CREDITS = HZ * 2**39 // SCALE       # per millionth of a second: user2credits of the kernel, which divides the constants first
BYTE_CREDITS = HZ * 2**24           # a full bucket of bytes, and the scale of byte costs
ABOVE, BYTES, RATE_MATCH = 16, 32, 64
MOST32, MOST64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
BYTE_LIFETIME, BURST_LIFETIME = 15_000, 60_000      # ms: what iptables asks for with a rate of bytes, without and with a burst


def jiffies(milliseconds: int) -> int:
    """msecs_to_jiffies of the kernel: rounded up; what is negative as an int is forever."""
    return -(-milliseconds * HZ // 1000) if milliseconds < 1 << 31 else 1 << 61


def byte_cost(rate: int) -> int:
    """Bytes per second -> the number iptables hands over: 2^32 by 16-byte chunks per second."""
    return MOST32 // ((rate >> CHUNK_SHIFT) + 1)


def bytes_of(cost: int) -> int:
    """Back: bytes per second."""
    return ((MOST32 // cost if cost else MOST32) - 1) << CHUNK_SHIFT


def byte_lifetime(values) -> int:
    return BURST_LIFETIME if values["burst"] else BYTE_LIFETIME


def bucket(values) -> tuple[int, int, int, int]:
    """(credit at first, cost, cap, rate) of an entry; see struct HashlimitConfig."""
    rate, burst = values["rate"], values["burst"]
    if "bytes" in values:
        cost = byte_cost(rate)
        refills = -(-burst // bytes_of(cost)) if burst else 0
        if "rate_match" in values:
            return 0, 0, (refills or 1) * bytes_of(cost), bytes_of(cost)
        return BYTE_CREDITS, cost * BYTE_CREDITS >> 32, refills, 0
    if "rate_match" in values:
        return 0, 0, burst + SCALE // rate, SCALE // rate
    full = (rate * burst & MOST64) * CREDITS & MOST64
    return full, rate * CREDITS & MOST64, full, 0


def overflows(rate: int, burst: int) -> bool:
    """Whether the kernel finds fewer credits in the burst than in one packet: 64-bit products, so that some bursts escape it."""
    return burst == 0 or rate * burst * CREDITS & MOST64 < rate * CREDITS & MOST64


@match("hashlimit",
       Opt("hashlimit-upto", "own", aliases=("hashlimit",), key="rate", invert=True, excludes=("hashlimit-above",), metavar="avg",
           help="as long as the rate is not above this: n[/second|/minute|/hour|/day], or n{b|kb|mb}/s"),
       Opt("hashlimit-above", "own", key="rate", invert=True, excludes=("hashlimit-upto",), metavar="avg", help="when the rate is above this"),
       Opt("hashlimit-burst", "own", key="burst", metavar="num", help="packets or bytes that may pass at once; 5"),
       Opt("hashlimit-mode", "own", key="mode", metavar="mode", help="what a rate is kept for: srcip,srcport,dstip,dstport"),
       Opt("hashlimit-name", "string", required=True, low=1, high=254, key="name", metavar="name", help="name of the table"),
       Opt("hashlimit-htable-size", "u32", key="size", metavar="num", help="buckets"),
       Opt("hashlimit-htable-max", "u32", key="max", metavar="num", help="entries"),
       Opt("hashlimit-htable-gcinterval", "u32", key="gcinterval", metavar="ms", help="how often old entries are looked for; 1000"),
       Opt("hashlimit-htable-expire", "u32", key="expire", metavar="ms", help="an entry unused for so long goes"),
       Opt("hashlimit-srcmask", "own", key="srcmask", metavar="length", help="prefix of the source that counts"),
       Opt("hashlimit-dstmask", "own", key="dstmask", metavar="length", help="prefix of the destination that counts"),
       Opt("hashlimit-rate-match", key="rate_match", help="compare the rate without limiting it"),
       Opt("hashlimit-rate-interval", "u32", low=1, key="rate_interval", needs=("hashlimit-rate-match",), metavar="sec", help="over so many seconds"))
class Hashlimit:
    def read_rate(self, draft, opt, text, env):
        found = BYTES_RATE.match(text)
        if found:
            size = dict(BYTE_UNITS)[found[2].lower()] * int(found[1])
            if size > 0xFFFFFFFF << CHUNK_SHIFT:
                raise RuleError(f'Rate too fast "{text}"\n')
            chunks = size >> CHUNK_SHIFT
            draft.values["rate"] = chunks << CHUNK_SHIFT
            draft.values["bytes"] = True
        elif "b" in text.lower():
            raise RuleError(f'hashlimit: Bad value for "--{opt.name}" option: "{text}"')
        else:
            draft.values["rate"] = parse_rate(text, opt)
        draft.values["above"] = opt.name == "hashlimit-above"

    def read_burst(self, draft, opt, text, env):
        found = BYTES_BURST.match(text)
        if not found:
            raise RuleError(f'hashlimit: Bad value for "--{opt.name}" option: "{text}"')
        draft.values["burst"] = int(found[1]) * dict(BYTE_UNITS)[(found[2] or "b").lower()]

    def read_mode(self, draft, opt, text, env):
        bits = 0
        for word in text.split(","):
            bit = dict(MODES).get(word)
            if bit is None:
                raise RuleError(f'hashlimit: Bad value for "--{opt.name}" option: "{text}"')
            bits |= bit
        draft.values["mode"] = bits

    def read_srcmask(self, draft, opt, text, env):
        number = names.unsigned(text, 0, 128)
        if number is None:
            raise RuleError(f'hashlimit: bad value for option "--{opt.name}", or out of range (0-{names.BYTES[env.family] * 8}).\n')
        draft.values[opt.key] = number

    read_dstmask = read_srcmask

    def final(self, draft, env):
        values = draft.values
        if "rate" not in values:
            raise RuleError("You have to specify --hashlimit")
        if "rate" in draft.inverted:
            values["above"] = not values["above"]
            draft.inverted.clear()
        bits = names.BYTES[env.family] * 8
        values.setdefault("mode", 0)
        values["srcmask"] = values.get("srcmask", bits)
        values["dstmask"] = values.get("dstmask", bits)
        values["bits"] = bits
        values.setdefault("gcinterval", DEFAULT_GC)
        self.final_burst(values)

    def final_burst(self, values) -> None:
        if "bytes" not in values:
            burst = values.setdefault("burst", DEFAULT_BURST)
            if not 1 <= burst <= MOST_BURST:
                raise RuleError(f'bad value for option "--hashlimit-burst", or out of range (1-{MOST_BURST}).')
            default = next((s for s in (1, 60, 3600, 86400) if values["rate"] <= s * SCALE), 86400) * 1000
        else:
            rate, burst = values["rate"], values.get("burst", 0)
            if burst and burst < rate:
                raise RuleError(f"burst cannot be smaller than {rate}b")
            values["burst"] = -(-burst // rate) * rate if burst and rate else 0
            default = 1000
        values["lifetime"] = values.get("expire", byte_lifetime(values) if "bytes" in values else default)
        values.setdefault("expire", default)
        values["default_expire"] = default

    def rate_part(self, values) -> tuple[str, str]:
        """Rate and burst as text; the burst may be ''."""
        if "bytes" in values:
            return bytes_text(values["rate"]) + "/s", bytes_text(values["burst"]) if values["burst"] else ""
        return rate_text(values["rate"]), str(values["burst"])

    def save(self, use):
        values = use.values
        rate, burst = self.rate_part(values)
        out = f" --hashlimit-{'above' if values['above'] else 'upto'} {rate}" + (f" --hashlimit-burst {burst}" if burst else "")
        if values["mode"]:
            out += f" --hashlimit-mode {','.join(name for name, bit in MODES if values['mode'] & bit)}"
        out += f" --hashlimit-name {values['name']}"
        return out + "".join(f" --hashlimit-{word} {value}".rstrip() for word, value in self.tail(values, "htable-"))

    def tail(self, values, prefix: str):
        for key in ("size", "max"):
            if values.get(key):
                yield prefix + key, values[key]
        if values["gcinterval"] != DEFAULT_GC:
            yield prefix + "gcinterval", values["gcinterval"]
        if values["expire"] != values["default_expire"]:
            yield prefix + "expire", values["expire"]
        for key in ("srcmask", "dstmask"):
            if values[key] != values["bits"]:
                yield key, values[key]
        if "rate_match" in values:
            yield "rate-match", ""
            if values.get("rate_interval", 1) != 1:
                yield "rate-interval", values["rate_interval"]

    def show(self, use, numeric, resolver):
        values = use.values
        if "rate_match" in values:
            values = self.per_interval(values)
        rate, burst = self.rate_part(values)
        out = f"limit: {'above' if values['above'] else 'up to'} {rate}" + (f" burst {burst}" if burst else "")
        if values["mode"]:
            out += f" mode {'-'.join(name for name, bit in MODES if values['mode'] & bit)}"
        return out + "".join(f" {word} {value}".rstrip() for word, value in self.tail(values, "htable-"))

    def per_interval(self, values):
        """-L divides the rate of --hashlimit-rate-match by its interval, and takes the default of expire from the result."""
        period = values["rate"] * values.get("rate_interval", 1)
        return {**values, "rate": period, "default_expire": next((s for s in (1, 60, 3600, 86400) if rate_text(period).endswith(UNIT_OF[s])), 1) * 1000}

    def check(self, use, rule):
        values = use.values
        if values["srcmask"] > values["bits"] or values["dstmask"] > values["bits"] or values["gcinterval"] == 0 or values["expire"] == 0:
            raise KernelRefusal("EINVAL")
        if "bytes" not in values and "rate_match" not in values and overflows(values["rate"], values["burst"]):
            raise KernelRefusal("ERANGE")

    def lower(self, use, rule):
        values = use.values
        mode = values["mode"] | (BYTES if "bytes" in values else 0) | (RATE_MATCH if "rate_match" in values else 0)
        size = min(values.get("size", 0), HASHLIMIT_MOST) or HASHLIMIT_BUCKETS
        most = max(min(values.get("max", 0), HASHLIMIT_MOST), size) if values.get("max") else 8 * size
        family = IPV4 if values["bits"] == 32 else IPV6
        config = (struct.pack("<4I", size, most, 0, 0) + struct.pack("<4Q", *bucket(values))
                  + struct.pack("<QQII", jiffies(values["lifetime"]), values.get("rate_interval", 1) * HZ, mode, jiffies(values["gcinterval"]))
                  + names.wide_mask(values["srcmask"], values["bits"]) + names.wide_mask(values["dstmask"], values["bits"]))
        info = struct.pack("<II", 0, mode | (ABOVE if values["above"] else 0))
        return [Test("hashlimit", info, named=Named("hashlimit", values["name"], family, config))]
