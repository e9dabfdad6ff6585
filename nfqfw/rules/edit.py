"""Changes to one table: a mutable copy, whose finished form is a new Table that shares what was not touched.

Errors are those of libiptc: RuleError with the errno that the tool would report.
"""

from __future__ import annotations

from nfqfw.errors import OTHER_PROBLEM, RuleError
from nfqfw.rules._rule import find_same
from nfqfw.rules.model import BUILTIN_CHAINS, Chain, Jump, PolicyCount, Rule, Standard, Table


def refused(errno_name: str) -> RuleError:
    return RuleError(errno_name, code=OTHER_PROBLEM, errno_name=errno_name)


class Editor:
    """A table under change.  Nothing is shared back into the original."""

    def __init__(self, table: Table):
        self.original = table
        self.name = table.name
        self.chains = dict(table.chains)
        self.owned: set[str] = set()                # chains whose rule list is ours to change
        self.changed = False

    def finish(self) -> Table:
        """The new table; the original itself if nothing was done to it."""
        return Table(self.name, dict(self.chains)) if self.changed else self.original

    # ---- looking ---------------------------------------------------------------------------------------------------------

    def is_chain(self, name: str) -> bool:
        return name in self.chains

    def chain(self, name: str) -> Chain:
        found = self.chains.get(name)
        if found is None:
            raise refused("ENOENT")
        return found

    def references(self, name: str) -> int:
        return sum(1 for chain in self.chains.values() for rule in chain.rules
                   if type(rule.target) is Jump and rule.target.chain == name)

    # ---- changing --------------------------------------------------------------------------------------------------------

    def own(self, name: str) -> Chain:
        """The chain with a rule list that may be changed in place."""
        chain = self.chain(name)
        if name not in self.owned:
            chain = self.put(chain.with_rules(list(chain.rules)))
        chain.summary = None
        return chain

    def put(self, chain: Chain) -> Chain:
        self.chains[chain.name] = chain
        self.owned.add(chain.name)
        self.changed = True
        return chain

    def append(self, name: str, rules: list[Rule]) -> None:
        self.check_target(name, rules)
        self.own(name).rules.extend(rules)

    def insert(self, name: str, number: int, rules: list[Rule]) -> None:
        """Each at `number`, one after the other: their order turns round (spec 3.5)."""
        self.check_target(name, rules)
        if number > len(self.chain(name).rules) + 1:
            raise refused("E2BIG")
        self.own(name).rules[number - 1:number - 1] = rules[::-1]

    def replace(self, name: str, number: int, rule: Rule) -> None:
        self.check_target(name, [rule])
        if number > len(self.chain(name).rules):
            raise refused("E2BIG")
        self.own(name).rules[number - 1] = rule

    def check_target(self, name: str, rules: list[Rule]) -> None:
        self.chain(name)
        for rule in rules:
            if type(rule.target) is Jump and rule.target.chain in BUILTIN_CHAINS[self.name]:
                raise refused("EINVAL")

    def delete_number(self, name: str, number: int) -> Rule:
        if number > len(self.chain(name).rules):
            raise refused("E2BIG")
        return self.own(name).rules.pop(number - 1)

    def find(self, name: str, rule: Rule) -> int:
        """Position from 0 of the first equal rule, -1 if there is none."""
        chain = self.chains.get(name)           # libiptc does not say that the chain itself is missing
        return find_same(chain.rules, rule) if chain is not None else -1

    def delete(self, name: str, rule: Rule) -> None:
        at = self.find(name, rule)
        if at < 0:
            raise self.no_match(name, rule)
        del self.own(name).rules[at]

    def no_match(self, name: str, rule: Rule) -> RuleError:
        """libiptc forgets what it was asked once it has looked up a chain or an extension for the target: then it says
        ENOENT in general words."""
        looked_up = name in self.chains and rule.target is not None and type(rule.target) is not Standard
        return refused("ENOENT" if looked_up else "NOMATCH")

    def flush(self, name: str) -> None:
        chain = self.chain(name)
        self.put(chain.with_rules([]))

    def new_chain(self, name: str, file: str = "", line: int = 0) -> None:
        if name in self.chains:
            raise refused("EEXIST")
        self.put(Chain(name, file=file, line=line))

    def delete_chain(self, name: str) -> None:
        chain = self.chain(name)
        if chain.policy is not None:
            raise refused("EINVAL")
        if self.references(name):
            raise refused("EMLINK")
        if chain.rules:
            raise refused("ENOTEMPTY")
        del self.chains[name]
        self.changed = True

    def delete_chains(self) -> None:
        """Every user chain; those that cannot go do not keep the others from trying, and the last one's error is told."""
        error = None
        for chain in self.original.user_chains():
            try:
                self.delete_chain(chain.name)
            except RuleError as mistake:
                error = mistake
        if error is not None:
            raise error

    def rename(self, old: str, new: str) -> None:
        if new in self.chains:
            raise refused("EEXIST")
        chain = self.chains.get(old)
        if chain is None or chain.policy is not None:
            raise refused("ENOENT")
        del self.chains[old]
        self.put(Chain(new, None, chain.rules, chain.count, chain.file, chain.line))
        self.owned.discard(new)
        for other in list(self.chains.values()):
            self.repoint(other, old, new)

    def repoint(self, chain: Chain, old: str, new: str) -> None:
        """Make the chain's jumps to `old` go to `new`; those rules go on counting."""
        rules = list(chain.rules)
        for i, rule in enumerate(rules):
            if type(rule.target) is Jump and rule.target.chain == old:
                rules[i] = rule.with_target(Jump(new, rule.target.goto))
                rules[i].continues = rule
        if any(a is not b for a, b in zip(rules, chain.rules)):
            self.put(chain.with_rules(rules))

    def set_policy(self, name: str, policy: str, counts: tuple[int, int] | None) -> None:
        """counts None: they start at 0, as the tool does when it is not told."""
        chain = self.chains.get(name)
        if chain is None or chain.policy is None:
            raise refused("NOBUILTIN")
        if policy not in ("ACCEPT", "DROP"):
            raise refused("BADPOLICY")
        owned = name in self.owned
        self.put(Chain(name, policy, chain.rules, PolicyCount(*(counts or (0, 0))), chain.file, chain.line))
        if not owned:
            self.owned.discard(name)

    def zero(self, name: str) -> None:
        chain = self.chain(name)
        rules = [rule.with_counts(0, 0) for rule in chain.rules]
        self.put(Chain(name, chain.policy, rules, PolicyCount(), chain.file, chain.line))

    def zero_number(self, name: str, number: int) -> None:
        if number > len(self.chain(name).rules):
            raise refused("E2BIG")
        chain = self.own(name)
        chain.rules[number - 1] = chain.rules[number - 1].with_counts(0, 0)
