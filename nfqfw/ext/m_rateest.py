"""match rateest: compares rate estimators, which nfqfw does not keep."""

from __future__ import annotations

from nfqfw.errors import RuleError
from nfqfw.ext.api import KernelRefusal, Opt, match
from nfqfw.ext.lowering import Unevaluated
from nfqfw.ext.rates import parse_bits, rate_text

SIGNS = ("rateest-lt", "rateest-gt", "rateest-eq")


@match("rateest",
       Opt("rateest1", "string", high=15, aliases=("rateest",), key="name1", metavar="name", help="estimator"),
       Opt("rateest2", "string", high=15, key="name2", metavar="name", help="second estimator"),
       Opt("rateest-bps1", "own", aliases=("rateest-bps",), key="bps1", metavar="bps", help="its bits per second"),
       Opt("rateest-bps2", "own", key="bps2", metavar="bps", help="bits per second of the second"),
       Opt("rateest-pps1", "u32", aliases=("rateest-pps",), key="pps1", metavar="pps", help="its packets per second"),
       Opt("rateest-pps2", "u32", key="pps2", metavar="pps", help="packets per second of the second"),
       Opt("rateest-delta", key="delta", help="compare the distance to the given rate"),
       *(Opt(name, key="sign", invert=True, excludes=SIGNS, help=text) for name, text in zip(SIGNS, ("less", "more", "equal"))))
class Rateest:
    def read_bps1(self, draft, opt, text, env):
        value = parse_bits(text)
        if value is None:
            raise RuleError(f"rateest: could not parse rate `{text}'")
        draft.values[opt.key] = value

    read_bps2 = read_bps1

    def read_sign(self, draft, opt, text, env):
        draft.values["sign"] = opt.name[-2:]

    def save(self, use):
        values = use.values
        out = ""
        for number in "12":
            if "name" + number in values:
                out += f" --rateest{number} {values['name' + number]}"
            if "bps" + number in values:
                out += f" --rateest-bps{number} {rate_text(values['bps' + number])}"
            if "pps" + number in values:
                out += f" --rateest-pps{number} {values['pps' + number]}"
            if number == "1":
                out += " --rateest-delta" if "delta" in values else ""
                out += f"{' !' if 'sign' in use.inverted else ''} --rateest-{values['sign']}" if "sign" in values else ""
        return out

    def show(self, use, numeric, resolver):
        return "rateest match" + self.save(use).replace(" --rateest", " rateest")

    def check(self, use, rule):
        raise KernelRefusal("ENOENT" if "name1" in use.values and "sign" in use.values else "EINVAL")

    def lower(self, use, rule):
        return Unevaluated("not evaluated yet: rateest: needs the estimators of RATEEST")
