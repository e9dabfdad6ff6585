"""match osf: the operating system that a SYN looks like."""

from __future__ import annotations

from nfqfw.ext.api import FORWARD, INPUT, PREROUTING, Only, Opt, match
from nfqfw.ext.lowering import Unevaluated
from nfqfw.protocols import TCP


@match("osf", Opt("genre", "string", required=True, invert=True, high=31, metavar="string", help="name of the system"),
       Opt("ttl", "u32", high=2, metavar="level", help="0 compare the TTL, 1 allow less, 2 do not look at it"),
       Opt("log", "u32", high=2, metavar="level", help="0 log all, 1 the first, 2 all that are known"),
       families=(2,), only=Only(hooks=(PREROUTING, INPUT, FORWARD), protocols=(TCP,)))
class Osf:
    def save(self, use):
        out = f"{' !' if 'genre' in use.inverted else ''} --genre {use.values['genre']}"
        return out + "".join(f" --{key} {use.values[key]}" for key in ("ttl", "log") if key in use.values)

    def show(self, use, numeric, resolver):
        return f"OS fingerprint match {'! ' if 'genre' in use.inverted else ''}{use.values['genre']}"

    def lower(self, use, rule):
        return Unevaluated("not evaluated yet: osf: needs a file of fingerprints")
