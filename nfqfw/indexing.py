"""What the index of a chain may know of each rule: the hull of its fields, as `_classify.build_index` takes it.

A lowered test brings FieldSets: conditions without which it is false.  They count up to the first test that may act or
drop before its answer is known (TRANSPARENT lists the others): behind a `limit` nothing may be taken for granted.
"""

from __future__ import annotations

from collections.abc import Sequence

from nfqfw._classify import BOX, RANGE, build_index
from nfqfw.ext.lowering import Test

FROM = 17                           # rules from which an index beats the walk (bench/classify.py)

# Tests without side effects whose only hotdrops are those of packets that `indexable` (_classify.pxd) turns away.
TRANSPARENT = frozenset(("src4", "dst4", "src6", "dst6", "in", "out", "proto", "fragment", "tcp", "udp", "icmp", "icmp6",
                         "multiport", "conntrack", "state", "mark"))
CT_BITS = ((2, 1), (4, 2), (8, 4), (256, 8), (1, 16))   # FieldSet ctstate bit -> ct_bit() of _classify.pxd
ALL_CLASSES = 31
FIELDS = frozenset(("saddr", "daddr", "sport", "dport", "proto", "ctstate"))
ANY_PORT, ANY_PROTO = ((0, 65535),), ((0, 255),)
EXACT_RANGES = 16                   # ranges of a port list kept one by one; a longer list counts as its hull


def ct_mask(ranges: Sequence[tuple[int, int]]) -> int:
    return sum(bit for value, bit in CT_BITS if any(low <= value <= high for low, high in ranges))


class Boxes:
    """Boxes of one chain's rules, in order."""

    def __init__(self, family: int) -> None:
        self.wide = family == 10
        self.last = (1 << (128 if self.wide else 32)) - 1
        self.packed = bytearray()
        self.ranges = bytearray()
        self.n_ranges = 0

    def add(self, tests: Sequence[Test]) -> None:
        """The next rule's tests."""
        box: dict[str, Sequence[tuple[int, int]]] = {}
        for test in tests:
            if test[0] not in TRANSPARENT:
                break
            for name, ranges in test[2]:
                if name in FIELDS and ranges and (name not in box or size(ranges) < size(box[name])):
                    box[name] = ranges              # two conditions on one field: both are necessary, the narrower says more
        full = ((0, self.last),)
        source, destination = box.get("saddr", full), box.get("daddr", full)
        sport, dport, proto = box.get("sport", ANY_PORT), box.get("dport", ANY_PORT), box.get("proto", ANY_PROTO)
        mask = ct_mask(box["ctstate"]) if "ctstate" in box else ALL_CLASSES
        self.packed += BOX.pack(
            source[0][0].to_bytes(16, "big"), source[-1][1].to_bytes(16, "big"), destination[0][0].to_bytes(16, "big"),
            destination[-1][1].to_bytes(16, "big"), sport[0][0], sport[-1][1], dport[0][0], dport[-1][1], proto[0][0],
            proto[-1][1], mask, 0, *self.exact(sport), *self.exact(dport))

    def exact(self, ranges: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """(first, number) in the list of exact ranges; (0, 0) when the hull says it all."""
        if not 1 < len(ranges) <= EXACT_RANGES:
            return 0, 0
        first = self.n_ranges
        for low, high in ranges:
            self.ranges += RANGE.pack(low, high)
        self.n_ranges += len(ranges)
        return first, len(ranges)

    def build(self, first_rule: int) -> bytes:
        """The chain's index; first_rule is the rule row of its first rule."""
        return build_index(bytes(self.packed), bytes(self.ranges), first_rule, self.wide)


def size(ranges: Sequence[tuple[int, int]]) -> int:
    return sum(high - low + 1 for low, high in ranges)
