"""match addrtype: what an address is to this host."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import INPUT, OUTPUT, POSTROUTING, PREROUTING, KernelRefusal, Opt, match
from nfqfw.ext.lowering import READS_FLOW, Test, Unevaluated

TYPES = ("UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT", "THROW", "NAT", "XRESOLVE")
BITS = {name: 1 << i for i, name in enumerate(TYPES)}
REFUSED6 = BITS["BROADCAST"] | BITS["BLACKHOLE"] | BITS["PROHIBIT"] | BITS["NAT"] | BITS["XRESOLVE"] | BITS["THROW"]
LIMITS = ("limit-iface-in", "limit-iface-out")
NOT_IN, NOT_OUT = (OUTPUT, POSTROUTING), (PREROUTING, INPUT)


def types_text(bits: int) -> str:
    return ",".join(name for name in TYPES if bits & BITS[name])


@match("addrtype",
       Opt("src-type", "own", invert=True, key="src", metavar="type[,...]", help="source is one of these"),
       Opt("dst-type", "own", invert=True, key="dst", metavar="type[,...]", help="destination is one of these"),
       Opt("limit-iface-in", excludes=LIMITS, key="limit_in", help="look only at the incoming interface"),
       Opt("limit-iface-out", excludes=LIMITS, key="limit_out", help="look only at the outgoing interface"))
class Addrtype:
    check_needs_hooks = True

    def read_src(self, draft, opt, text, env):
        bits = 0
        for word in text.split(","):
            name = next((name for name in TYPES if word and name == word.upper()), None)
            if name is None:
                raise RuleError(f'addrtype: bad type "{word}"', offset=text.index(word))
            bits |= BITS[name]
        draft.values[opt.key] = bits

    read_dst = read_src

    def final(self, draft, env):
        if "src" not in draft.values and "dst" not in draft.values:
            raise RuleError("addrtype: you must specify --src-type or --dst-type")

    def save(self, use):
        out = "".join(f"{' !' if key in use.inverted else ''} --{key}-type {types_text(use.values[key])}"
                      for key in ("src", "dst") if key in use.values)
        return out + "".join(f" --limit-iface-{side}" for side in ("in", "out") if "limit_" + side in use.values)

    def show(self, use, numeric, resolver):
        out = "ADDRTYPE match" + "".join(f" {key}-type {'!' if key in use.inverted else ''}{types_text(use.values[key])}"
                                         for key in ("src", "dst") if key in use.values)
        return out + "".join(f" limit-{side}" for side in ("in", "out") if "limit_" + side in use.values)

    def check(self, use, place):
        if "limit_in" in use.values and any(place.hooks >> hook & 1 for hook in NOT_IN):
            raise KernelRefusal("EINVAL", "ipt_addrtype: input interface limitation not valid in POSTROUTING and OUTPUT")
        if "limit_out" in use.values and any(place.hooks >> hook & 1 for hook in NOT_OUT):
            raise KernelRefusal("EINVAL", "ipt_addrtype: output interface limitation not valid in PREROUTING and INPUT")
        if place.family == 10 and any(use.values.get(key, 0) & REFUSED6 for key in ("src", "dst")):
            raise KernelRefusal("EINVAL", "ipt_addrtype: ipv6 does not support these types")

    def lower(self, use, rule):
        values = use.values
        if any(opt in values for opt in ("limit_in", "limit_out")):
            return Unevaluated("not evaluated yet: addrtype with an interface")
        if (values.get("src", 0) | values.get("dst", 0)) & BITS["UNREACHABLE"]:
            return Unevaluated("not evaluated yet: addrtype UNREACHABLE")
        asked = ("src" in values) | ("dst" in values) << 1
        invert = ("src" in use.inverted) | ("dst" in use.inverted) << 1
        return [Test("addrtype", struct.pack("<HHHH", values.get("src", 0), values.get("dst", 0), asked, invert), reads=READS_FLOW)]

