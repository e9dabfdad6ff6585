"""target CT, and NOTRACK, its short form: what tracking is told about a packet before it starts."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext import helpers, timeouts
from nfqfw.ext.api import KernelRefusal, Only, Opt, target
from nfqfw.ext.lowering import Action, Unevaluated

ONLY = Only(tables=("raw",))
EVENTS = ("new", "related", "destroy", "reply", "assured", "protoinfo", "helper", "mark", "natseqinfo", "secmark")
EXPECT_EVENTS = ("new",)
CHOSEN, EXPECT_SHIFT = 1 << 15, 12         # TELL_CHOSEN; TELL_EXPECT_NEW is bit 12
SIDES = {"zone_orig": 1, "zone_reply": 2, "zone": 3}
SIDE_WORDS = {1: "zone-orig", 2: "zone-reply", 3: "zone"}


def parse_events(text: str, table) -> int:
    bits = 0
    for word in text.split(","):
        if word.lower() not in table:
            raise RuleError(f'Unknown event type "{word}"', offset=text.index(word))
        bits |= 1 << table.index(word.lower())
    return bits


def events_text(bits: int, table) -> str:
    return ",".join(name for i, name in enumerate(table) if bits >> i & 1)


def check_policy(name: str, place) -> None:
    """The kernel's refusals of a rule that names a time-out policy."""
    policy = place.policies.get(name)
    if policy is None:
        raise KernelRefusal("ENOENT", f'No such timeout policy "{name}"')
    if policy.family != place.family:
        raise KernelRefusal("EINVAL", f"Timeout policy `{name}' can only be used by L3 protocol number {policy.family}")
    if policy.proto != timeouts.tracker_of(place.protocol):
        raise KernelRefusal("EINVAL", f"Timeout policy `{name}' can only be used by L4 protocol number {policy.proto}")


def chosen_events(values: dict) -> int:
    """EventBit of _conn.pxd.  A rule that names events of one kind turns the other kind off, as in the kernel; 0 = no choice."""
    wanted, expected = values.get("ctevents", 0), values.get("expevents", 0)
    return CHOSEN | wanted | expected << EXPECT_SHIFT if wanted or expected else 0


@target("CT",
        Opt("notrack", help="do not track"),
        Opt("helper", "string", low=0, high=15, metavar="name", help="use this helper for the connection"),
        Opt("timeout", "string", low=0, high=31, metavar="name", help="use this timeout policy"),
        Opt("ctevents", "own", metavar="event[,event...]", help="report only these events:\n" + " ".join(EVENTS)),
        Opt("expevents", "own", metavar="event[,event...]", help="report only these events of expectations: new"),
        Opt("zone", "own", excludes=("zone-orig", "zone-reply"), key="zone", metavar="{number|mark}", help="zone, or the packet's mark as the zone"),
        Opt("zone-orig", "own", key="zone_orig", excludes=("zone",), metavar="{number|mark}", help="zone of the original direction only"),
        Opt("zone-reply", "own", key="zone_reply", excludes=("zone",), metavar="{number|mark}", help="zone of the reply direction only"),
        only=ONLY)
class Ct:
    def read_ctevents(self, draft, opt, text, env):
        draft.values["ctevents"] = parse_events(text, EVENTS)

    def read_expevents(self, draft, opt, text, env):
        draft.values["expevents"] = parse_events(text, EXPECT_EVENTS)

    def read_zone(self, draft, opt, text, env):
        from nfqfw.ext.names import unsigned
        value = "mark" if text == "mark" else unsigned(text, 0, 65535)
        if value is None:
            raise RuleError(f'Cannot parse {text} as a zone ID\n')
        draft.values["zone"] = value                # one zone for the rule: the option given last names it
        draft.values["sides"] = draft.values.get("sides", 0) | SIDES[opt.key]

    read_zone_orig = read_zone_reply = read_zone

    def save(self, use):
        return "".join(f" --{key} {text}" if text else f" --{key}" for key, text in self.parts(use))

    def show(self, use, numeric, resolver):
        return "CT" + "".join(f" {key} {text}" if text else f" {key}" for key, text in self.parts(use))

    def parts(self, use):
        values = use.values
        if "notrack" in values:
            yield "notrack", ""
        for key in ("helper", "timeout"):
            if values.get(key):                     # an empty name is none
                yield key, values[key]
        if values.get("ctevents"):
            yield "ctevents", events_text(values["ctevents"], EVENTS)
        if values.get("expevents"):
            yield "expevents", events_text(values["expevents"], EXPECT_EVENTS)
        if values.get("zone"):
            yield SIDE_WORDS[values["sides"]], str(values["zone"])

    check_needs_hooks = True                        # what it finds depends on the policies there are: it may not be kept

    def check(self, use, place):
        helper, timeout = use.values.get("helper"), use.values.get("timeout")
        if "notrack" in use.values or not (helper or timeout):
            return
        if not place.protocol or place.protocol_inverted:
            raise KernelRefusal("ENOENT" if helper else "EINVAL", "You must specify a L4 protocol and not use inversions on it")
        if helper and not helpers.number_of(helper, place.protocol, place.family):
            raise KernelRefusal("ENOENT", f'No such helper "{helper}"')
        if timeout and place.policies is not None:
            check_policy(timeout, place)

    def lower(self, use, rule):
        values = use.values
        if "notrack" in values:
            return Action("notrack")            # by itself it makes the kernel track nothing (oracle seed 8)
        policy = timeouts.number_of(values["timeout"]) if values.get("timeout") else 0
        if values.get("timeout") and not policy:
            return Unevaluated(f"not possible: rules have named {timeouts.NAMES_MOST} time-out policies already")
        zone, sides = values.get("zone", 0), values.get("sides", 3)
        from_mark = zone == "mark"
        helper = helpers.number_of(values["helper"]) if values.get("helper") else 0
        if helper:
            helpers.NAMED.add(values["helper"])
        info = struct.pack("<IHHHBBBBH", 0, 0 if from_mark else zone, helper, chosen_events(values), sides % 3, from_mark, 0, 0, policy)
        return Action("ct", info, ("conntrack", "defrag"), state=bytes(4))     # its mark


@target("NOTRACK", only=ONLY)
class Notrack:
    listed_as = "CT"

    def show(self, use, numeric, resolver):
        return "NOTRACK"

    def lower(self, use, rule):
        return Action("notrack")            # by itself it makes the kernel track nothing (oracle seed 8)
