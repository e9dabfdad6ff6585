"""match physdev: the ports of a bridge that a packet came in by and leaves by."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import OUTPUT, KernelRefusal, Opt, match
from nfqfw.ext.lowering import Test, interface_info
from nfqfw.limits import IFACE_NAME_BYTES

KEYS = (("physdev_in", 1), ("physdev_out", 2), ("physdev_is_bridged", 4), ("physdev_is_in", 8), ("physdev_is_out", 16))
PRINTED = ("physdev_is_in", "physdev_in", "physdev_is_out", "physdev_out", "physdev_is_bridged")


@match("physdev",
       Opt("physdev-in", "own", invert=True, metavar="name[+]", help="bridge port it came in by"),
       Opt("physdev-out", "own", invert=True, metavar="name[+]", help="bridge port it leaves by"),
       Opt("physdev-is-in", invert=True, help="it came in by a bridge"),
       Opt("physdev-is-out", invert=True, help="it leaves by a bridge"),
       Opt("physdev-is-bridged", invert=True, help="it is bridged, not routed"))
class Physdev:
    check_needs_hooks = True

    def read_physdev_in(self, draft, opt, text, env):
        if len(text.encode(errors="surrogateescape")) > IFACE_NAME_BYTES:
            raise RuleError(f"interface name `{text}' must be shorter than 16 characters")
        draft.values[opt.key] = text

    read_physdev_out = read_physdev_in

    def final(self, draft, env):
        if not draft.seen:
            raise RuleError("PHYSDEV: no physdev option specified")

    def save(self, use):
        out = ""
        for key in PRINTED:
            if key in use.values:
                name = "" if use.values[key] is True else f" {use.values[key]}"
                out += f"{' !' if key in use.inverted else ''} --{key.replace('_', '-')}{name}"
        return out

    def show(self, use, numeric, resolver):
        return "PHYSDEV match" + self.save(use)

    def check(self, use, place):
        leaving = ("physdev_out" in use.values or "physdev_is_out" in use.values)
        if leaving and ("physdev_is_bridged" not in use.values or "physdev_is_bridged" in use.inverted) and place.hooks >> OUTPUT & 1:
            raise KernelRefusal("EINVAL", "xt_physdev: --physdev-out and --physdev-is-out only supported in the FORWARD and POSTROUTING "
                                          "chains with bridged traffic.")

    def lower(self, use, rule):
        asked = sum(bit for key, bit in KEYS if key in use.values)
        invert = sum(bit for key, bit in KEYS if key in use.inverted)
        info = interface_info(use.values.get("physdev_in", "+"), False) + interface_info(use.values.get("physdev_out", "+"), False)
        return [Test("physdev", info + struct.pack("<II", asked, invert))]
