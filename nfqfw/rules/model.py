"""Ruleset, Table, Chain, Rule: what a ruleset file says, as values.

Overview.  A Ruleset is never changed once it is in force: an edit makes new objects on the path to the change and shares
the rest, so that a reader holds a whole ruleset and a swap is one assignment.

Counters.  A Rule, and the PolicyCount of a built-in chain, carry the counts they start with.  An object that a new ruleset
shares with the old one goes on counting; an object that is new starts at what it carries.  That is how `-Z`, `-R`, `-c` and
everything else that sets a counter is told to a running engine.  In the same way a Table that is the same object keeps the
state of its rules (limit, quota), and a new one starts afresh, as a commit does in the kernel (spec/iptables.md 4.5).
"""

from __future__ import annotations

from nfqfw.ext.api import FORWARD, INPUT, OUTPUT, POSTROUTING, PREROUTING, Use
from nfqfw.rules._rule import Rule

IPV4, IPV6 = 2, 10

# Rule.inverted: bits as in struct ipt_ip of the kernel
INV_IN, INV_OUT, INV_SRC, INV_DST, INV_FRAG, INV_PROTO = 0x01, 0x02, 0x08, 0x10, 0x20, 0x40

# table -> built-in chains in hook order, and the hook of each
BUILTIN_CHAINS: dict[str, dict[str, int]] = {
    "raw": {"PREROUTING": PREROUTING, "OUTPUT": OUTPUT},
    "mangle": {"PREROUTING": PREROUTING, "INPUT": INPUT, "FORWARD": FORWARD, "OUTPUT": OUTPUT, "POSTROUTING": POSTROUTING},
    "nat": {"PREROUTING": PREROUTING, "INPUT": INPUT, "OUTPUT": OUTPUT, "POSTROUTING": POSTROUTING},
    "filter": {"INPUT": INPUT, "FORWARD": FORWARD, "OUTPUT": OUTPUT},
    "security": {"INPUT": INPUT, "FORWARD": FORWARD, "OUTPUT": OUTPUT},
}


class Standard:
    """Target that is a verdict: ACCEPT, DROP, RETURN or QUEUE.  One object each: VERDICTS."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


VERDICTS = {name: Standard(name) for name in ("ACCEPT", "DROP", "RETURN", "QUEUE")}


class Jump:
    """Target that is a chain: -j (goto False) or -g."""

    __slots__ = ("chain", "goto")

    def __init__(self, chain: str, goto: bool = False):
        self.chain = chain
        self.goto = goto

    @property
    def name(self) -> str:
        return self.chain

    def __eq__(self, other) -> bool:
        return isinstance(other, Jump) and self.chain == other.chain and self.goto == other.goto

    def __hash__(self) -> int:
        return hash((self.chain, self.goto))

    def __repr__(self) -> str:
        return f"<{'goto' if self.goto else 'jump'} {self.chain}>"


MatchUse = TargetUse = Use          # a match or an extension target with its options; see ext.api


class PolicyCount:
    """Packets that reached the policy of a built-in chain.  Its identity matters; see the head of this file."""

    __slots__ = ("packets", "bytes")

    def __init__(self, packets: int = 0, bytes: int = 0):
        self.packets = packets
        self.bytes = bytes


class Chain:
    """A chain.  policy is 'ACCEPT' or 'DROP' for a built-in chain, None for a user's."""

    __slots__ = ("name", "policy", "count", "rules", "summary", "file", "line")

    def __init__(self, name: str, policy: str | None = None, rules: list[Rule] | None = None,
                 count: PolicyCount | None = None, file: str = "", line: int = 0):
        self.name = name
        self.policy = policy
        self.count = count or PolicyCount()
        self.rules = [] if rules is None else rules
        self.summary = None                         # rules.validate keeps here what it learned
        self.file = file
        self.line = line

    @property
    def packets(self) -> int:
        return self.count.packets

    @property
    def bytes(self) -> int:
        return self.count.bytes

    def with_rules(self, rules: list[Rule]) -> Chain:
        return Chain(self.name, self.policy, rules, self.count, self.file, self.line)


class Table:
    """A table: its chains by name, the built-in ones first in hook order."""

    __slots__ = ("name", "chains")

    def __init__(self, name: str, chains: dict[str, Chain] | None = None):
        self.name = name
        self.chains = chains if chains is not None else {chain: Chain(chain, "ACCEPT") for chain in BUILTIN_CHAINS[name]}

    def with_chain(self, chain: Chain) -> Table:
        return Table(self.name, {**self.chains, chain.name: chain})

    def user_chains(self) -> list[Chain]:
        """In the order in which the kernel's tools print them: by bytes of the name."""
        return sorted((chain for chain in self.chains.values() if chain.policy is None),
                      key=lambda chain: chain.name.encode(errors="surrogateescape"))

    def ordered_chains(self) -> list[Chain]:
        """Built-in chains in hook order, then the users'."""
        return [self.chains[name] for name in BUILTIN_CHAINS[self.name]] + self.user_chains()


class Ruleset:
    """All tables of one family.  `tables` is in the order in which save prints them."""

    __slots__ = ("family", "tables")

    def __init__(self, family: int, tables: dict[str, Table] | None = None):
        self.family = family
        self.tables = {} if tables is None else tables

    def table(self, name: str) -> Table:
        """The table, empty with policies ACCEPT if nothing has been put into it."""
        return self.tables.get(name) or Table(name)

    def with_table(self, table: Table) -> Ruleset:
        """A new ruleset.  A table that is new comes first: the kernel lists the latest one first (spec 3.3)."""
        if table.name in self.tables:
            return Ruleset(self.family, {**self.tables, table.name: table})
        return Ruleset(self.family, {table.name: table, **self.tables})

    def is_empty(self) -> bool:
        """Nothing in it can change what happens to a packet, nor count one in a rule."""
        return all(chain.policy in (None, "ACCEPT") and not (chain.policy and chain.rules)
                   for table in self.tables.values() for chain in table.chains.values())
