"""match rt: the routing header of IPv6."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext import names
from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import Test
from nfqfw.ext.spi import drop_full, save_spi, show_range

MOST = 16


@match("rt",
       Opt("rt-type", "u32", key="type", invert=True, metavar="type", help="type of the header"),
       Opt("rt-segsleft", "u32:range", key="segsleft", invert=True, metavar="num[:num]", help="segments left, or a range"),
       Opt("rt-len", "u32", key="len", invert=True, metavar="length", help="length of the header in bytes"),
       Opt("rt-0-res", key="res", help="type 0: the reserved field is zero"),
       Opt("rt-0-addrs", "own", key="addrs", metavar="ADDR[,ADDR...]", help="type 0: these addresses, at most 16"),
       Opt("rt-0-not-strict", key="not_strict", help="not exactly these addresses"), families=(10,))
class Rt:
    def need_type_0(self, draft, option: str) -> None:
        if draft.values.get("type") != 0 or "type" in draft.inverted:
            raise RuleError(f"`--rt-type 0' required before `--{option}'")

    def read_res(self, draft, opt, text, env):
        self.need_type_0(draft, opt.name)
        draft.values["res"] = True

    def read_addrs(self, draft, opt, text, env):
        self.need_type_0(draft, opt.name)
        found = []
        for word in text.split(","):
            if len(found) >= MOST:
                raise RuleError("too many addresses specified")
            address = names.parse_address(word, 10)
            if address is None:
                raise RuleError(f"error parsing address `{word}'", offset=text.index(word))
            found.append(address)
        draft.values["addrs"] = tuple(found)

    def read_not_strict(self, draft, opt, text, env):
        self.need_type_0(draft, opt.name)
        if "addrs" not in draft.values:
            raise RuleError("`--rt-0-addr ...' required before `--rt-0-not-strict'")
        draft.values["not_strict"] = True

    def final(self, draft, env):
        drop_full(draft, "segsleft")

    def addresses(self, use) -> str:
        return ",".join(map(names.address_text, use.values["addrs"]))

    def save(self, use):
        values = use.values
        out = f"{' !' if 'type' in use.inverted else ''} --rt-type {values['type']}" if "type" in values else ""
        out += save_spi(use, "segsleft", "rt-segsleft")
        out += f"{' !' if 'len' in use.inverted else ''} --rt-len {values['len']}" if "len" in values else ""
        out += " --rt-0-res" if "res" in values else ""
        out += f" --rt-0-addrs {self.addresses(use)}" if "addrs" in values else ""
        return out + (" --rt-0-not-strict" if "not_strict" in values else "")

    def show(self, use, numeric, resolver):
        values = use.values
        words = ["rt"]
        if "type" in values:
            words.append(f"type:{'!' if 'type' in use.inverted else ''}{values['type']}")
        if "segsleft" in values:
            words.append(show_range(use, "segsleft", "segsleft"))
        if "len" in values:
            words.append(f"length:{'!' if 'len' in use.inverted else ''}{values['len']}")
        words += ["reserved"] if "res" in values else []
        words += [f"0-addrs {self.addresses(use)}"] if "addrs" in values else []
        return " ".join(words + (["0-not-strict"] if "not_strict" in values else []))

    def lower(self, use, rule):
        values = use.values
        addresses = values.get("addrs", ())
        asked = sum(bit for key, bit in (("type", 1), ("segsleft", 2), ("len", 4), ("res", 8), ("addrs", 16), ("not_strict", 32)) if key in values)
        invert = sum(bit for key, bit in (("type", 1), ("segsleft", 2), ("len", 4)) if key in use.inverted)
        info = struct.pack("<IIIIIII", values.get("type", 0), *values.get("segsleft", (0, 0)), values.get("len", 0), asked, invert, len(addresses))
        return [Test("rt6", info + b"".join(addresses).ljust(16 * MOST, b"\0"))]
