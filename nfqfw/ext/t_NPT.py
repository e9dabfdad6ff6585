"""targets SNPT and DNPT: IPv6 prefix translation, RFC 6296."""

from __future__ import annotations

import struct

from nfqfw.ext import names
from nfqfw.ext.api import INPUT, OUTPUT, POSTROUTING, PREROUTING, KernelRefusal, Only, Opt, target
from nfqfw.ext.lowering import Action

OPTIONS = (Opt("src-pfx", "own", key="source", required=True, metavar="prefix/length", help="the prefix that packets have"),
           Opt("dst-pfx", "own", key="destination", required=True, metavar="prefix/length", help="the prefix that they get"))


def words_sum(address: bytes) -> int:
    """One's complement sum of the address's 16-bit words."""
    total = sum(struct.unpack("!8H", address))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


class Npt:
    op = ""

    def read_prefix(self, draft, opt, text, env):
        host, slash, length = text.partition("/")
        mask = names.parse_mask(length, env.family) if slash else names.ALL_ONES[env.family]
        bits = names.prefix_length(mask) if mask is not None else None
        if bits is None:
            from nfqfw.errors import RuleError
            raise RuleError(f'{draft.ext.name}: bad value for option "--{opt.name}", neither a valid network mask nor valid CIDR (0-128).\n')
        draft.values[opt.key] = names.parse_host(host, env.family, env.resolver)[0], bits

    read_source = read_destination = read_prefix

    def prefix_text(self, use, key: str) -> str:
        address, bits = use.values[key]
        return f"{names.address_text(address)}/{bits}"

    def save(self, use):
        return f" --src-pfx {self.prefix_text(use, 'source')} --dst-pfx {self.prefix_text(use, 'destination')}"

    def show(self, use, numeric, resolver):
        return f"{use.name} src-pfx {self.prefix_text(use, 'source')} dst-pfx {self.prefix_text(use, 'destination')}"

    def check(self, use, rule):
        for address, bits in (use.values["source"], use.values["destination"]):
            if bits > 64 or names.masked(address, names.prefix_mask(bits, 10)) != address:
                raise KernelRefusal("EINVAL")

    def lower(self, use, rule):
        (source, source_bits), (destination, destination_bits) = use.values["source"], use.values["destination"]
        adjustment = words_sum(source) + (~words_sum(destination) & 0xFFFF)
        adjustment = (adjustment & 0xFFFF) + (adjustment >> 16)
        info = struct.pack("<16s16sHBB", source, destination, adjustment, source_bits, max(source_bits, destination_bits))
        return Action(self.op, info, ("rewrites", "reroutes"))


@target("SNPT", *OPTIONS, families=(10,), only=Only(("mangle",), (INPUT, POSTROUTING)))
class Snpt(Npt):
    op = "snpt"


@target("DNPT", *OPTIONS, families=(10,), only=Only(("mangle",), (PREROUTING, OUTPUT)))
class Dnpt(Npt):
    op = "dnpt"
