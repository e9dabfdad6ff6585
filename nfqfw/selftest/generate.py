"""Seeded random cases.  A case is a function of (GENERATOR, features, seed) and of nothing else.

Features are the names of the opcodes that the engine has (ops.py) less what `unsupported.toml` lists, so the generator
grows with the engine; a recording keeps the features it was made with.
"""

from __future__ import annotations

import random
import tomllib
from pathlib import Path

from nfqfw.ops import ACTIONS, TESTS
from nfqfw.selftest.case import Case
from nfqfw.selftest.generate_packets import Talk
from nfqfw.selftest.generate_rules import RulesetMaker
from nfqfw.selftest.packets import IPV4, IPV6

GENERATOR = 1                       # grows when a seed gives another case: recordings of another number are void


def all_features() -> tuple[str, ...]:
    """What this build of the engine evaluates, by the names of ops.py."""
    return tuple(sorted({*TESTS, *ACTIONS}))


def active_features(unsupported: Path | None = None) -> frozenset[str]:
    """all_features() less what the file lists."""
    listed = tomllib.loads(unsupported.read_text()) if unsupported else {}
    return frozenset(all_features()) - set(listed.get("features", {}))


def make_case(seed: int, features: frozenset[str]) -> Case:
    rng = random.Random(f"nfqfw/{GENERATOR}/{seed}")
    family = IPV4 if rng.random() < 0.6 else IPV6
    maker = RulesetMaker(rng, family, features)
    rules = maker.text()
    talk = Talk(rng, family, seed, maker.pool)
    return Case(family, rules, talk.steps(), f"seed {seed}")
