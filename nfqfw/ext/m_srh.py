"""match srh: the segment routing header of IPv6 (RFC 8754)."""

from __future__ import annotations

from nfqfw.ext import names
from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import Unevaluated

NUMBERS = (("next-hdr", "u8", "next_hdr"), ("hdr-len-eq", "u8", "hdr_len"), ("hdr-len-gt", "u8", "hdr_len"), ("hdr-len-lt", "u8", "hdr_len"),
           ("segs-left-eq", "u8", "segs_left"), ("segs-left-gt", "u8", "segs_left"), ("segs-left-lt", "u8", "segs_left"),
           ("last-entry-eq", "u8", "last_entry"), ("last-entry-gt", "u8", "last_entry"), ("last-entry-lt", "u8", "last_entry"), ("tag", "u16", "tag"))
SEGMENTS = ("psid", "nsid", "lsid")


@match("srh",
       *(Opt("srh-" + name, kind, key=name, invert=True, metavar=name.replace("-", "_"), help=name.replace("-", " ")) for name, kind, _ in NUMBERS),
       *(Opt("srh-" + name, "hostmask", key=name, invert=True, metavar="addr[/mask]", help=text)
         for name, text in zip(SEGMENTS, ("previous segment", "next segment", "last segment"))), families=(10,))
class Srh:
    """The kernel keeps one number for -eq, -gt and -lt of a field: the last one given counts for all of them."""

    def final(self, draft, env):
        last = {field: draft.values[name] for seen in draft.seen.values() for name, _, field in NUMBERS if name == seen.key}
        for name, _, field in NUMBERS:
            if name in draft.values:
                draft.values[name] = last[field]

    def save(self, use):
        out = "".join(f"{' !' if name in use.inverted else ''} --srh-{name} {use.values[name]}" for name, _, _ in NUMBERS if name in use.values)
        return out + "".join(f"{' !' if name in use.inverted else ''} --srh-{name} {self.network(use, name)}" for name in SEGMENTS if name in use.values)

    def network(self, use, name: str) -> str:
        address, mask = use.values[name]
        return names.address_text(address) + names.mask_suffix(mask, always=True)

    def show(self, use, numeric, resolver):
        words = [f"{name}:{'!' if name in use.inverted else ''}{use.values[name]}" for name, _, _ in NUMBERS if name in use.values]
        words += [f"{name} {'!' if name in use.inverted else ''} {self.network(use, name)}" for name in SEGMENTS if name in use.values]
        return " ".join(["srh", *words])

    def lower(self, use, rule):
        return Unevaluated("not evaluated yet: srh: segment routing headers are not read")
