"""A rule -> tests, target and features, stated plainly.  The compiler writes the same in bulk (_layout.pyx); a test compares."""

from __future__ import annotations

import struct
from functools import lru_cache

from nfqfw.ext.lowering import READS_FLOW, Action, FieldSet, Test, Unevaluated, address_ranges, complement, interface_info
from nfqfw.rules.model import INV_DST, INV_FRAG, INV_IN, INV_OUT, INV_PROTO, INV_SRC, Jump, Rule, Standard

INVERTED = (struct.pack("<I", 0), struct.pack("<I", 1))


def lower_rule(rule: Rule):
    """(tests, target, features) of a rule.

    tests: the rule's own part in the kernel's order (source, destination, in, out, protocol, fragment; left out where nothing
    is asked), then the matches from left to right; a match that cannot be evaluated is an Unevaluated in its place.
    target: None, Standard, Jump, Action or Unevaluated.  features: frozenset of the strings of ext.lowering.
    """
    tests = own_tests(rule)
    for use in rule.matches:
        lowered = use.ext.lower(use, rule)
        tests += [lowered] if isinstance(lowered, Unevaluated) else lowered
    target = rule.target
    if target is not None and not isinstance(target, (Standard, Jump)):
        target = target.ext.lower(target, rule)
    features = [test.features for test in tests if isinstance(test, Test)]
    if isinstance(target, Action):
        features.append(target.features)
    return tests, target, frozenset().union(*features)


def own_tests(rule: Rule) -> list[Test]:
    tests = []
    inverted = rule.inverted
    for address, mask, bit, side in ((rule.source, rule.source_mask, INV_SRC, "src"),
                                     (rule.destination, rule.destination_mask, INV_DST, "dst")):
        if address is not None:
            tests.append(address_test(address, mask, bool(inverted & bit), side))
    for name, bit, side in ((rule.in_interface, INV_IN, "in"), (rule.out_interface, INV_OUT, "out")):
        if name:
            tests.append(interface_test(name, bool(inverted & bit), side))
    if rule.protocol:
        tests.append(protocol_test(rule.protocol, bool(inverted & INV_PROTO)))
    if rule.fragment:
        flag = bool(inverted & INV_FRAG)
        value = 0 if flag else 1
        tests.append(Test("fragment", struct.pack("<B3x", flag), (FieldSet("fragment", ((value, value),)),), reads=READS_FLOW))
    return tests


def address_test(address: bytes, mask: bytes, inverted: bool, side: str) -> Test:
    size = len(address)
    ranges = address_ranges(address, mask)
    fields = ()
    if ranges is not None:
        if inverted:
            ranges = complement(ranges, 0, (1 << size * 8) - 1)
        fields = (FieldSet(side[0] + "addr", ranges),)
    return Test(side + ("4" if size == 4 else "6"), address + mask + INVERTED[inverted], fields, reads=READS_FLOW)


@lru_cache(256)
def interface_test(name: str, inverted: bool, side: str) -> Test:
    return Test(side, interface_info(name, inverted), (FieldSet(side, ((name, inverted),)),), reads=READS_FLOW)


@lru_cache(512)
def protocol_test(number: int, inverted: bool) -> Test:
    ranges = ((number, number),)
    return Test("proto", struct.pack("<BB2x", number, inverted),
                (FieldSet("proto", complement(ranges, 0, 255) if inverted else ranges),), reads=READS_FLOW)
