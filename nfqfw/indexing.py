"""What the index of a chain may know of each rule: the hull of its fields, as `_classify.build_index` takes it.

A lowered test brings FieldSets: conditions without which it is false.  They count up to the first test that may act or
drop before its answer is known (TRANSPARENT lists the others): behind a `limit` nothing may be taken for granted.
"""

from __future__ import annotations

from collections.abc import Sequence

from nfqfw._classify import BOX, RANGE, build_index
from nfqfw.ext.lowering import FieldSet, Test

FROM = 17                           # rules from which an index beats the walk (bench/classify.py)

# Tests without side effects whose only hotdrops are those of packets that `indexable` (_classify.pxd) turns away.
TRANSPARENT = frozenset(("src4", "dst4", "src6", "dst6", "in", "out", "proto", "fragment", "tcp", "udp", "icmp", "icmp6",
                         "multiport", "conntrack", "state", "mark"))
CT_BITS = ((2, 1), (4, 2), (8, 4), (256, 8), (1, 16))   # FieldSet ctstate bit -> ct_bit() of _classify.pxd
ALL_CLASSES = 31
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
            if test.op not in TRANSPARENT:
                break
            for field in test.fields:
                self.narrow(box, field)
        source = self.hull(box, "saddr", self.last)
        destination = self.hull(box, "daddr", self.last)
        sport, dport = self.hull(box, "sport", 65535), self.hull(box, "dport", 65535)
        proto = self.hull(box, "proto", 255)
        mask = ct_mask(box["ctstate"]) if "ctstate" in box else ALL_CLASSES
        self.packed += BOX.pack(
            source[0].to_bytes(16, "big"), source[1].to_bytes(16, "big"), destination[0].to_bytes(16, "big"),
            destination[1].to_bytes(16, "big"), *sport, *dport, *proto, mask, 0,
            *self.exact(box.get("sport", ())), *self.exact(box.get("dport", ())))

    @staticmethod
    def narrow(box: dict, field: FieldSet) -> None:
        """Two conditions on one field: keep the one that accepts less (both are necessary)."""
        if not field.ranges or not isinstance(field.ranges[0][0], int):
            return                                  # an empty condition never holds; leave it to the test
        known = box.get(field.field)
        if known is None or size(field.ranges) < size(known):
            box[field.field] = field.ranges

    @staticmethod
    def hull(box: dict, name: str, last: int) -> tuple[int, int]:
        ranges = box.get(name)
        return (ranges[0][0], ranges[-1][1]) if ranges else (0, last)

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
