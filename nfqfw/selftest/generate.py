"""Seeded random cases.  A case is a function of (GENERATOR, features, seed) and of nothing else.

Features are the rows of generate_rules' tables that this build evaluates, less what `unsupported.toml` lists, so the
generator's cases grow with the engine; a recording keeps the features it was made with.
"""

from __future__ import annotations

import random
import tomllib
from functools import cache
from pathlib import Path

from nfqfw.errors import NfqfwError
from nfqfw.selftest.case import Case
from nfqfw.selftest.generate_packets import Talk
from nfqfw.selftest.generate_rules import RulesetMaker, sample
from nfqfw.selftest.matches import MATCHES
from nfqfw.selftest.packets import IPV4, IPV6
from nfqfw.selftest.targets import TARGETS

GENERATOR = 3                       # grows when a seed gives another case: recordings of another number are void


@cache
def all_features() -> frozenset[str]:
    """Rows of the generator's tables that this build evaluates: a rule made from the row loads and compiles."""
    from nfqfw.selftest.ours import program_of

    def evaluated(name: str, family: int) -> bool:
        try:
            program_of(Case(family, sample(name, family), []))
        except (NfqfwError, KeyError):      # KeyError: an opcode that _ops.pxd does not have
            return False
        return True

    return frozenset(name for name in {*MATCHES, *TARGETS} if any(evaluated(name, family) for family in (IPV4, IPV6)))


def active_features(unsupported: Path | None = None) -> frozenset[str]:
    """all_features() less what the file lists."""
    return all_features() - set(listed_as_unsupported(unsupported))


def listed_as_unsupported(unsupported: Path | None) -> dict[str, str]:
    """Features that the file leaves out, with the reason."""
    return tomllib.loads(unsupported.read_text())["features"] if unsupported else {}


def listed_as_explained(unsupported: Path | None) -> dict[int, str]:
    """Seeds whose difference is known, with the reason."""
    return {int(seed): why for seed, why in tomllib.loads(unsupported.read_text())["explained"].items()} if unsupported else {}


def make_case(seed: int, features: frozenset[str]) -> Case:
    rng = random.Random(f"nfqfw/{GENERATOR}/{seed}")
    family = IPV4 if rng.random() < 0.6 else IPV6
    maker = RulesetMaker(rng, family, features, seed)
    rules = maker.text()
    talk = Talk(rng, family, seed, maker.pool)
    return Case(family, rules, talk.steps(), f"seed {seed}", policies=sorted(set(maker.pool.policies)))
