"""target HMARK: a mark from a hash over addresses and ports."""

from __future__ import annotations

from nfqfw.errors import RuleError
from nfqfw.ext import names
from nfqfw.ext.api import Opt, target
from nfqfw.ext.lowering import Unevaluated

# field of the tuple -> what it sets where nothing else does
TUPLE = ("src", "dst", "sport", "dport", "spi", "proto", "ct")
FULL16, FULL32 = 0xFFFF, 0xFFFFFFFF


@target("HMARK",
        Opt("hmark-tuple", "own", key="tuple", metavar="{src|dst|sport|dport|spi|proto|ct},...", help="what is hashed"),
        Opt("hmark-src-prefix", "own", key="src_prefix", metavar="length", help="prefix of the source that counts"),
        Opt("hmark-dst-prefix", "own", key="dst_prefix", metavar="length", help="prefix of the destination that counts"),
        Opt("hmark-sport-mask", "u16", key="sport_mask", metavar="value", help="bits of the source port that count"),
        Opt("hmark-dport-mask", "u16", key="dport_mask", metavar="value", help="bits of the destination port that count"),
        Opt("hmark-spi-mask", "u32", key="spi_mask", metavar="value", help="bits of the SPI that count"),
        Opt("hmark-sport", "u16", key="sport", metavar="value", help="added to the source port by OR"),
        Opt("hmark-dport", "u16", key="dport", metavar="value", help="added to the destination port by OR"),
        Opt("hmark-spi", "u32", key="spi", metavar="value", help="added to the SPI by OR"),
        Opt("hmark-proto-mask", "u16", key="proto_mask", metavar="value", help="bits of the protocol that count"),
        Opt("hmark-rnd", "u32", key="rnd", metavar="value", help="seed of the hash"),
        Opt("hmark-mod", "u32", key="mod", low=1, metavar="value", help="the hash is taken modulo this"),
        Opt("hmark-offset", "u32", key="offset", metavar="value", help="and then this is added"))
class Hmark:
    def read_tuple(self, draft, opt, text, env):
        bits = names.BYTES[env.family] * 8
        defaults = {"src": ("src_prefix", bits), "dst": ("dst_prefix", bits), "sport": ("sport_mask", FULL16), "dport": ("dport_mask", FULL16),
                    "spi": ("spi_mask", FULL32), "proto": ("proto_mask", FULL16), "ct": ("ct", True)}
        for word in text.split(","):
            if word not in TUPLE:
                raise RuleError(f'Bad type "{word}"\n', offset=text.index(word))
            key, value = defaults[word]
            draft.values[key] = value
            own = next((o for o in self.opts if o.key == key), None)
            if own is not None:
                draft.seen[own.name] = own

    def read_src_prefix(self, draft, opt, text, env):
        number = names.unsigned(text, 0, names.BYTES[env.family] * 8)
        if number is None:
            raise RuleError(f'HMARK: bad value for option "--{opt.name}", or out of range (0-{names.BYTES[env.family] * 8}).\n')
        draft.values[opt.key] = number

    read_dst_prefix = read_src_prefix

    def final(self, draft, env):
        values = draft.values
        if "mod" not in values:
            raise RuleError("--hmark-mod is mandatory")
        if "rnd" not in values:
            raise RuleError("--hmark-rnd is mandatory")
        for key in ("offset", "sport", "dport", "spi"):
            if values.get(key) == 0:
                del values[key]

    def fields(self, values, padded: bool):
        """(option, value as text); -L does not pad, and prints a whole IPv6 prefix as nothing."""
        for key, width in (("src_prefix", 0), ("dst_prefix", 0), ("sport_mask", 4), ("dport_mask", 4), ("spi_mask", 8),
                           ("sport", 4), ("dport", 4), ("spi", 8), ("proto_mask", 2)):
            if key in values:
                value = values[key]
                whole = "" if value == 128 and not padded else str(value)
                yield key.replace("_", "-"), f"0x{value:0{width if padded else 1}x}" if width else whole

    def save(self, use):
        values = use.values
        out = "".join(f" --hmark-{name} {text}" for name, text in self.fields(values, True)) + f" --hmark-rnd 0x{values['rnd']:08x} --hmark-mod {values['mod']}"
        if "offset" in values:
            out += f" --hmark-offset {values['offset']}"
        return out + (" --hmark-tuple ct" if "ct" in values else "")

    def show(self, use, numeric, resolver):
        values = use.values
        out = f"HMARK mod {values['mod']} " + (f"+ 0x{values['offset']:x} " if "offset" in values else "") + ("ct, " if "ct" in values else "")
        return out + "".join(f"{name} {text} " for name, text in self.fields(values, False)) + f"rnd 0x{values['rnd']:x} "

    def lower(self, use, rule):
        return Unevaluated("not evaluated yet: HMARK: the kernel's hash of addresses and ports is not computed here")
