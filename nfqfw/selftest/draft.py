"""What a random rule is made of: the values it may test, and what the kernel's restrictions on it depend on."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from nfqfw.selftest.packets import IPV4

PORTS = (22, 53, 80, 81, 443, 1024, 1111, 5000, 65535)
PORT_PROTOCOLS = ("tcp", "udp")


@dataclass(slots=True)
class Pool:
    """Values that rules of the case test; packets take theirs from here, and one beside."""

    ports: list[int] = field(default_factory=lambda: list(PORTS))
    marks: list[int] = field(default_factory=lambda: [0, 1, 2, 0x10, 0xff])
    lengths: list[int] = field(default_factory=lambda: [0, 1, 10, 64])
    ttls: list[int] = field(default_factory=lambda: [64])
    tos: list[int] = field(default_factory=lambda: [0, 0x10, 0xb8])
    protocols: list[str] = field(default_factory=list)          # of `-p`, where they are not everybody's
    clients: list[str] = field(default_factory=lambda: ["C0", "C1", "C2"])
    extensions: list[str] = field(default_factory=lambda: ["d", "h", "hd", "dd"])       # IPv6 header chains
    serial: int = 0             # of the case: named tables outlive a ruleset, and no two cases may share one
    named: int = 0              # tables of hashlimit so far
    policies: list[str] = field(default_factory=list)           # time-out policies that rules name, as nfct commands
    waits: bool = False         # a rule has a rate at which a pause within the case counts


@dataclass(slots=True)
class Draft:
    """A rule being made: what the kernel's restrictions are about."""

    table: str
    hooks: frozenset[str]
    proto: str = ""
    negated_proto: bool = False
    family: int = IPV4


def port_range(rng: random.Random, pool: Pool) -> str:
    low = rng.choice(PORTS)
    if rng.random() < 0.6:
        return str(low)
    high = rng.choice([p for p in PORTS if p >= low])
    pool.ports += [max(low - 1, 1), min(high + 1, 65535)]
    return rng.choice((f"{low}:{high}", f"{low}:{high}", f":{high}", f"{low}:"))


def maybe_not(rng: random.Random, odds: float = 0.25) -> str:
    return "! " if rng.random() < odds else ""


def number_range(rng: random.Random, values: list[int], top: int) -> tuple[int, int]:
    low = rng.choice(values)
    return low, min(top, low + rng.choice((0, 0, 1, 20, 1000)))


Condition = Callable[[Draft], bool]


def with_proto(*names: str) -> Condition:
    return lambda d: d.proto in names and not d.negated_proto


def on_hooks(*names: str) -> Condition:
    """The chain is entered, and only from these hooks."""
    return lambda d: bool(d.hooks) and d.hooks <= set(names)


def of_family(family: int) -> Condition:
    return lambda d: d.family == family


def both(*conditions: Condition) -> Condition:
    return lambda d: all(condition(d) for condition in conditions)


def always(draft: Draft) -> bool:
    return True
