"""match policy: the IPsec policy of a packet, which a queue is not told."""

from __future__ import annotations

from nfqfw.errors import RuleError
from nfqfw.ext import names
from nfqfw.ext.api import INPUT, OUTPUT, POSTROUTING, PREROUTING, KernelRefusal, Opt, match
from nfqfw.ext.lowering import Unevaluated
from nfqfw.ext.values import network_text, read_raw_network
from nfqfw.protocols import AH, ESP, IPCOMP, protocol_name, protocol_number

ELEMENTS = 4                        # the kernel's bound
PRINTED = ("reqid", "spi", "proto", "mode", "tunnel_dst", "tunnel_src")


@match("policy",
       Opt("dir", "own", metavar="in|out", help="policy of decapsulation or of encapsulation"),
       Opt("pol", "own", metavar="none|ipsec", help="whether there is one"),
       Opt("strict", help="the whole policy, not one element of it"),
       Opt("reqid", "own", multi=True, invert=True, key="element", metavar="reqid", help="request id"),
       Opt("spi", "own", multi=True, invert=True, key="element", metavar="spi", help="security parameter index"),
       Opt("proto", "own", multi=True, invert=True, key="element", metavar="proto", help="ah, esp or ipcomp"),
       Opt("mode", "own", multi=True, invert=True, key="element", metavar="mode", help="transport or tunnel"),
       Opt("tunnel-src", "own", multi=True, invert=True, key="element", metavar="addr/mask", help="source of the tunnel"),
       Opt("tunnel-dst", "own", multi=True, invert=True, key="element", metavar="addr/mask", help="destination of the tunnel"),
       Opt("next", multi=True, needs=("strict",), key="next", help="begin the next element"))
class Policy:
    check_needs_hooks = True

    def read(self, draft, opt, text, inverted, env):
        """Elements are kept as a list of dicts; an inverted value has "!" in front of its key."""
        from nfqfw.ext.api import Extension
        if opt.key not in ("element", "next"):
            Extension.read(self, draft, opt, text, inverted, env)
            return
        draft.seen[opt.name] = opt
        elements = draft.values.setdefault("elements", [{}])
        if opt.key == "next":
            if len(elements) >= ELEMENTS:
                raise RuleError("policy match: maximum policy depth reached")
            elements.append({})
            return
        key = opt.name.replace("-", "_")
        if key in elements[-1]:
            raise RuleError(f"policy match: double --{opt.name} option")
        elements[-1][key] = self.element_value(key, text, opt, env), inverted

    def element_value(self, key: str, text: str, opt, env):
        if key in ("reqid", "spi"):
            number = names.unsigned(text)
            if number is None:
                raise RuleError(f'policy: bad value for option "--{opt.name}", or out of range (0-4294967295).\n')
            return number
        if key == "proto":
            number = names.unsigned(text, 0, 255)
            number = protocol_number(text.lower()) if number is None else number
            if number not in (AH, ESP, IPCOMP):
                raise RuleError("policy match: protocol must be ah/esp/ipcomp" if number is not None else f'unknown protocol "{text}" specified')
            return number
        if key == "mode":
            if text not in ("transport", "tunnel"):
                raise RuleError(f'policy match: invalid mode "{text}"')
            return text
        return read_raw_network(text, opt, "policy", env)

    def read_dir(self, draft, opt, text, env):
        if text not in ("in", "out"):
            raise RuleError(f'policy_match: invalid dir "{text}"')
        draft.values["dir"] = text

    def read_pol(self, draft, opt, text, env):
        if text not in ("none", "ipsec"):
            raise RuleError(f'policy match: invalid policy "{text}"')
        draft.values["pol"] = text

    def final(self, draft, env):
        values = draft.values
        if "dir" not in values:
            raise RuleError("policy match: neither --dir in nor --dir out specified")
        values.setdefault("pol", "ipsec")
        if values["pol"] == "none":
            if "strict" in values:
                raise RuleError("policy match: policy none but --strict given")
            if "elements" in values:
                raise RuleError("policy match: policy none but policy given")
            return
        elements = values.setdefault("elements", [{}])
        for i, element in enumerate(elements):
            if "strict" in values and not element:
                raise RuleError(f"policy match: empty policy element {i}. --strict is in effect, but at least one of reqid, spi, tunnel-src, "
                                "tunnel-dst, proto or mode is required.")
            tunnel = element.get("mode", ("", False))
            if ("tunnel_src" in element or "tunnel_dst" in element) and (tunnel[0] != "tunnel" or tunnel[1]):
                raise RuleError("policy match: --tunnel-src/--tunnel-dst is only valid in tunnel mode")

    def words(self, use, listed: bool, numeric: bool) -> str:
        values = use.values
        dash = "" if listed else "--"
        out = f" {dash}dir {values['dir']} {dash}pol {values['pol']}" + (f" {dash}strict" if "strict" in values else "")
        elements = values.get("elements", [])
        for i, element in enumerate(elements):
            if listed and len(elements) > 1:
                out += f" [{i}]"
            elif i:
                out += " --next"
            for key in PRINTED:
                if key in element:
                    value, inverted = element[key]
                    out += f"{' !' if inverted else ''} {dash}{key.replace('_', '-')} {self.value_text(key, value, listed and numeric)}"
        return out

    def value_text(self, key: str, value, numeric: bool) -> str:
        if key == "spi":
            return f"{value:#x}"
        if key == "proto":
            return str(value) if numeric else protocol_name(value, True) or str(value)
        return network_text(value) if key.startswith("tunnel") else str(value)

    def save(self, use):
        return self.words(use, False, False)

    def show(self, use, numeric, resolver):
        return "policy match" + self.words(use, True, numeric)

    def check(self, use, place):
        wrong = (OUTPUT, POSTROUTING) if use.values["dir"] == "in" else (PREROUTING, INPUT)
        if any(place.hooks >> hook & 1 for hook in wrong):
            raise KernelRefusal("EINVAL", "input policy not valid in POSTROUTING and OUTPUT" if use.values["dir"] == "in" else
                                "output policy not valid in PREROUTING and INPUT")

    def lower(self, use, rule):
        return Unevaluated("not possible: a queue is not told the IPsec policy")
