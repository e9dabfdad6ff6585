"""match owner: whose socket sent the packet."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import OUTPUT, POSTROUTING, KernelRefusal, Only, Opt, match
from nfqfw.ext.lowering import Test, Unevaluated

NO_ID = 0xFFFFFFFF


def number_of(text: str, group: bool) -> int | None:
    """Id of a user or group by name, or None."""
    import grp
    import pwd
    try:
        return grp.getgrnam(text).gr_gid if group else pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError):
        return None


def name_of(number: int, group: bool) -> str:
    import grp
    import pwd
    try:
        return grp.getgrgid(number).gr_name if group else pwd.getpwuid(number).pw_name
    except (KeyError, OverflowError):
        return str(number)


@match("owner",
       Opt("uid-owner", "own", invert=True, key="uid", metavar="userid[-userid]", help="user, or a range of ids"),
       Opt("gid-owner", "own", invert=True, key="gid", metavar="groupid[-groupid]", help="group, or a range of ids"),
       Opt("socket-exists", invert=True, key="socket", help="there is a socket"),
       Opt("suppl-groups", key="suppl", help="look also at the supplementary groups"),
       only=Only(hooks=(OUTPUT, POSTROUTING)))
class Owner:
    def read_uid(self, draft, opt, text, env):
        number = number_of(text, opt.key == "gid")
        ends = [number, number]
        if number is None:
            parts = text.split("-", 1)
            ends = [int(part) if part.isdigit() and part.isascii() and int(part) < NO_ID else None for part in (parts[0], parts[-1])]
        if None in ends:
            raise RuleError(f'owner: Bad value for "--{opt.name}" option: "{text}"')
        draft.values[opt.key] = ends[0], ends[1]

    read_gid = read_uid

    def read_suppl(self, draft, opt, text, env):
        if "gid" not in draft.values:
            raise RuleError('owner: Bad value for "--suppl-groups" option: "you need to use --gid-owner first"')
        draft.values["suppl"] = True

    def final(self, draft, env):
        if not draft.seen:
            raise RuleError("owner: At least one of --uid-owner, --gid-owner or --socket-exists is required")

    def save(self, use):
        out = " ! --socket-exists" if "socket" in use.inverted else " --socket-exists" if "socket" in use.values else ""
        for key in ("uid", "gid"):
            if key in use.values:
                low, high = use.values[key]
                out += f"{' !' if key in use.inverted else ''} --{key}-owner {low if low == high else f'{low}-{high}'}"
        return out + (" --suppl-groups" if "suppl" in use.values else "")

    def show(self, use, numeric, resolver):
        out = []
        if "socket" in use.values:
            out.append(("! " if "socket" in use.inverted else "") + "owner socket exists")
        for key, word in (("uid", "UID"), ("gid", "GID")):
            if key in use.values:
                low, high = use.values[key]
                text = f"{low}-{high}" if low != high else str(low) if numeric else name_of(low, key == "gid")
                out.append(f"{'! ' if key in use.inverted else ''}owner {word} match {text}")
        return " ".join(out) + (" incl. suppl. groups" if "suppl" in use.values else "")

    def check(self, use, rule):
        if any(use.values[key][0] > use.values[key][1] for key in ("uid", "gid") if key in use.values):
            raise KernelRefusal("EINVAL")

    def lower(self, use, rule):
        if "suppl" in use.values:
            return Unevaluated("not evaluated yet: owner --suppl-groups")
        keys = (("uid", 1), ("gid", 2), ("socket", 4))
        asked = sum(bit for key, bit in keys if key in use.values)
        invert = sum(bit for key, bit in keys if key in use.inverted)
        return [Test("owner", struct.pack("<IIIIII", *use.values.get("uid", (0, 0)), *use.values.get("gid", (0, 0)), asked, invert))]
