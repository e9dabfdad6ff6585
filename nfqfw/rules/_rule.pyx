"""Rule: one rule of a chain, as a compact object; rulesets have hundreds of thousands."""

cimport cython

from nfqfw.errors import Span

COUNTER_MAX = (1 << 64) - 1     # counters wrap there, as the kernel's do


@cython.final
@cython.no_gc                   # rules are in no cycle: the collector need not look at them
cdef class Rule:
    """One rule.  Addresses and masks are wire bytes, None = not asked; interfaces are "" when not asked.

    Not to be changed once a ruleset has it (model.py).
    """

    def __init__(self, source=None, source_mask=None, destination=None, destination_mask=None, in_interface="",
                 out_interface="", protocol=0, fragment=False, inverted=0, matches=(), target=None, packets=0, bytes=0,
                 file="", line=0):
        self.source = source
        self.source_mask = source_mask
        self.destination = destination
        self.destination_mask = destination_mask
        self.in_interface = str(in_interface)        # the words of a command line know their places: not kept
        self.out_interface = str(out_interface)
        self.protocol = protocol
        self.fragment = fragment
        self.inverted = inverted
        self.matches = matches
        self.target = target
        self.packets = packets & COUNTER_MAX
        self.byte_count = bytes & COUNTER_MAX
        self.file = file
        self.line = line

    @property
    def bytes(self) -> int:
        return self.byte_count

    @property
    def span(self) -> Span:
        return Span(self.file, self.line)

    @property
    def protocol_inverted(self) -> bool:
        return bool(self.inverted & INV_PROTO)

    cpdef bint same_as(self, Rule other) except -1:
        """Equal as -D and -C compare: everything but counters and place.  What differs most comes first."""
        if other is None:
            raise TypeError("None is no Rule")
        return (self.protocol == other.protocol and self.inverted == other.inverted and self.source == other.source
                and self.destination == other.destination and self.fragment == other.fragment
                and self.in_interface == other.in_interface and self.out_interface == other.out_interface
                and self.source_mask == other.source_mask and self.destination_mask == other.destination_mask
                and self.target == other.target and self.matches == other.matches)

    def with_counts(self, packets: int, byte_count: int) -> Rule:
        return self.with_target(self.target, packets, byte_count)

    def with_target(self, target, packets=None, byte_count=None) -> Rule:
        """A new rule: the same but for its target and, if given, its counts."""
        return Rule(self.source, self.source_mask, self.destination, self.destination_mask, self.in_interface,
                    self.out_interface, self.protocol, self.fragment, self.inverted, self.matches, target,
                    self.packets if packets is None else packets, self.byte_count if byte_count is None else byte_count,
                    self.file, self.line)

    cpdef bint is_unconditional(self):
        """Tests nothing at all; what comes after it with a verdict is unreachable to the kernel (spec 3.6)."""
        return (not self.matches and self.source is None and self.destination is None and not self.inverted
                and not self.protocol and not self.in_interface and not self.out_interface and not self.fragment)

    def __repr__(self) -> str:
        return f"<rule {self.file}:{self.line} {self.target!r}>"


# ---- lists of rules, as long as chains are ---------------------------------------------------------------------------------

def find_same(list rules, Rule wanted not None) -> int:
    """Position of the first equal rule, -1 if there is none."""
    cdef Py_ssize_t i
    for i in range(len(rules)):
        if wanted.same_as(rules[i]):
            return i
    return -1


def not_plain(list rules) -> list:
    """The rules that rules.validate has to look at."""
    return [rule for rule in rules if not (<Rule?>rule).plain]


def common_ends(list a, list b) -> tuple:
    """How many rules both lists begin with, and with how many others they end: the same objects."""
    cdef Py_ssize_t most = min(len(a), len(b)), first = 0, last = 0
    while first < most and a[first] is b[first]:
        first += 1
    while last < most - first and a[len(a) - 1 - last] is b[len(b) - 1 - last]:
        last += 1
    return first, last
