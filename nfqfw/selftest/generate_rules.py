"""Random rulesets: user chains, jumps, goto, RETURN, negations, every table, over what the engine evaluates.

Their matches and targets are the tables MATCHES and TARGETS (matches.py, targets.py).
"""

from __future__ import annotations

import random

from nfqfw.selftest.case import CHAINS
from nfqfw.selftest.draft import Draft, Pool, maybe_not
from nfqfw.selftest.matches import MATCHES
from nfqfw.selftest.packets import IPV4, address
from nfqfw.selftest.targets import TARGETS

HOOK_INTERFACES = {"PREROUTING": "i", "INPUT": "i", "FORWARD": "io", "OUTPUT": "o", "POSTROUTING": "o"}
TABLE_ODDS = {"filter": 0.95, "mangle": 0.5, "raw": 0.35, "security": 0.25, "nat": 0.25}
RARE_PROTOCOLS = {"udplite": "udplite", "sctp": "sctp", "89": "89", "esp": "50", "ah": "51", "ipcomp": "108", "mh": "135", "dccp": "33",
                  "gre": "gre"}     # of a rule: as packets call them
NAT_FEATURES = {"snat", "dnat", "masquerade", "redirect", "netmap"}


def sample(feature: str, family: int) -> str:
    """A ruleset of one rule from this row of MATCHES or TARGETS; empty when the family has no such rule."""
    rng, pool = random.Random(feature), Pool()
    for table, chain in (("filter", "INPUT"), ("mangle", "FORWARD"), ("mangle", "POSTROUTING"), ("mangle", "PREROUTING"), ("raw", "PREROUTING"), ("nat", "POSTROUTING"), ("nat", "PREROUTING"),
                         ("filter", "OUTPUT")):
        for proto in ("", "tcp", "udp", "sctp", "esp", "ah", "ipcomp", "dccp", "mh", "icmp" if family == IPV4 else "ipv6-icmp"):
            draft = Draft(table, frozenset({chain}), proto, family=family)
            row = MATCHES.get(feature) or TARGETS[feature]
            if not row[1](draft):
                continue
            if feature in MATCHES:
                name, options = row[2](rng, draft, pool)
                rest = " ".join([f"-m {name}", *options])
            else:
                rest = action(row[2](rng, draft, pool))
            return f"*{table}\n:{chain} ACCEPT [0:0]\n-A {chain} {f'-p {proto} ' if proto else ''}{rest}\nCOMMIT\n"
    return "*filter\n-A NOSUCH\nCOMMIT\n"


def action(text: str) -> str:
    """The end of a rule: a row's text is what follows -j, or says that itself."""
    return text if text.startswith("-") else f"-j {text}"


class RulesetMaker:
    """One random ruleset; `pool` afterwards holds the values its rules test."""

    def __init__(self, rng: random.Random, family: int, features: frozenset[str], serial: int = 0) -> None:
        self.rng, self.family, self.features, self.pool = rng, family, features, Pool(serial=serial)

    def text(self) -> str:
        return "".join(self.table(t) for t, odds in TABLE_ODDS.items()
                       if self.rng.random() < odds and (t != "nat" or self.features & NAT_FEATURES))

    def table(self, table: str) -> str:
        rng = self.rng
        users = [f"u{i}" for i in range(rng.choice((0, 0, 1, 2, 3)))]
        chains: dict[str, list[str]] = {}
        reached = {name: set() for name in users}           # user chain -> hooks that may enter it
        for i, chain in enumerate([*CHAINS[table], *users]):
            hooks = frozenset({chain}) if chain not in users else frozenset(reached[chain])
            later = users if chain not in users else users[i - len(CHAINS[table]) + 1:]
            count = rng.choice((0, 1, 2, 3, 5)) if hooks else 0
            chains[chain] = [self.rule(table, chain, hooks, later, reached) for _ in range(count)]
        policy = {c: "DROP" if rng.random() < (0.15 if table == "filter" else 0.03) and table != "nat" else "ACCEPT"
                  for c in CHAINS[table]}
        heads = [f":{c} {policy.get(c, '-')} [0:0]" for c in chains]
        rules = [f"-A {c} {r}".rstrip() for c, body in chains.items() for r in body]
        return "\n".join([f"*{table}", *heads, *rules, "COMMIT"]) + "\n"

    # ---- one rule -----------------------------------------------------------------------------------------------

    def rule(self, table: str, chain: str, hooks: frozenset[str], later: list[str], reached: dict) -> str:
        rng = self.rng
        draft = Draft(table, hooks, family=self.family)
        parts = [*self.own_part(draft, hooks)]
        for _ in range(rng.choice((0, 1, 1, 2))):
            parts += self.one_match(draft)
        parts += self.target(draft, later, reached)
        return " ".join(parts)

    def own_part(self, draft: Draft, hooks: frozenset[str]) -> list[str]:
        rng, out = self.rng, []
        for option in ("-s", "-d"):
            if rng.random() < 0.2:
                out.append(f"{maybe_not(rng)}{option} {self.network()}")
        sides = set.intersection(*(set(HOOK_INTERFACES[h]) for h in hooks)) if hooks else set()
        for side in sorted(sides):
            if rng.random() < 0.15:
                out.append(f"{maybe_not(rng)}-{side} {rng.choice(('eth0', 'eth1', 'eth+', 'lo', 'et+'))}")
        if rng.random() < 0.6:
            draft.proto = rng.choice(self.protocols())
            draft.negated_proto = rng.random() < 0.1
            if draft.proto in RARE_PROTOCOLS:
                self.pool.protocols.append(RARE_PROTOCOLS[draft.proto])
            out.append(f"{'! ' if draft.negated_proto else ''}-p {draft.proto}")
        if self.family == IPV4 and rng.random() < 0.04:
            out.append(f"{maybe_not(rng)}-f")
        return out

    def protocols(self) -> tuple[str, ...]:
        return ("tcp", "tcp", "tcp", "tcp", "tcp", "udp", "udp", "udp", "icmp" if self.family == IPV4 else "ipv6-icmp",
                "udplite", "sctp", "89", "esp", "ipcomp", "ah" if self.family == IPV4 else "mh", "dccp", "gre")

    def network(self) -> str:
        rng = self.rng
        host = address(rng.choice(("C0", "C1", "C2", "S0", "S1", "S2", "R1", "R2")), self.family)
        if self.family == IPV4:
            return f"{host}/{rng.choice((32, 32, 31, 30, 24, 16, 9, 1))}"
        return f"{host}/{rng.choice((128, 128, 127, 126, 64, 48, 33))}"

    def one_match(self, draft: Draft) -> list[str]:
        choices = [(f, *row) for f, row in MATCHES.items() if f in self.features and row[1](draft)]
        if not choices:
            return []
        _, _, _, make = self.rng.choices(choices, [c[1] for c in choices])[0]
        name, options = make(self.rng, draft, self.pool)
        return [f"-m {name}", *options]

    def target(self, draft: Draft, later: list[str], reached: dict) -> list[str]:
        rng = self.rng
        if later and rng.random() < 0.35:
            chain = rng.choice(later)
            reached[chain] |= draft.hooks
            return [f"{rng.choice(('-j', '-j', '-g'))} {chain}"]
        choices = [(3, "ACCEPT"), ({"filter": 1, "nat": 0}.get(draft.table, 0.3), "DROP"), (2, "RETURN"), (3, "")]
        choices += [(row[0], f) for f, row in TARGETS.items() if f in self.features and row[1](draft)]
        picked = rng.choices([c[1] for c in choices], [c[0] for c in choices])[0]
        if picked in TARGETS:
            return [action(TARGETS[picked][2](rng, draft, self.pool))]
        return [f"-j {picked}"] if picked else []
