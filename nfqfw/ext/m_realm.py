"""match realm: the realm of the packet's route."""

from __future__ import annotations

from nfqfw.ext.api import FORWARD, INPUT, OUTPUT, POSTROUTING, Only, Opt, match
from nfqfw.ext.lowering import Unevaluated
from nfqfw.ext.named import name_of, read_named, value_text

FILE = "/etc/iproute2/rt_realms"


@match("realm", Opt("realm", "own", required=True, invert=True, metavar="value[/mask]", help="realm by number or name"),
       families=(2,), only=Only(hooks=(INPUT, FORWARD, OUTPUT, POSTROUTING)))
class Realm:
    def read_realm(self, draft, opt, text, env):
        draft.values["realm"] = read_named(text, "realm", "realm", FILE)

    def save(self, use):
        return f"{' !' if 'realm' in use.inverted else ''} --realm {name_of(use.values['realm'], FILE)}"

    def show(self, use, numeric, resolver):
        value = use.values["realm"]
        return f"{'! ' if 'realm' in use.inverted else ''}realm {value_text(value) if numeric else name_of(value, FILE)}"

    def lower(self, use, rule):
        return Unevaluated("not possible: the realm of a packet's route is not told to a queue")
