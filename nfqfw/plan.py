"""The attach plan: which hooks must be queued to us.  design.md section 5, "Fewest crossings".

Each crossing costs more than everything we do to a packet, and a crossing runs every step that was not run before.  So
INPUT, FORWARD and OUTPUT are enough for a filter ruleset: FORWARD and INPUT run PREROUTING's steps first, FORWARD and
OUTPUT run POSTROUTING's after their own.  PREROUTING is attached when rules there must act before routing or can drop,
POSTROUTING when rules in OUTPUT can re-route (the out interface is known only afterwards).  `exact` attaches every hook.
"""

from __future__ import annotations

from nfqfw.compile import FAMILIES, HOOKS, Program

ALL = frozenset(HOOKS)
CORE = frozenset(("INPUT", "FORWARD", "OUTPUT"))


def is_empty(program: Program) -> bool:
    """True when nothing in the Program can change, count or drop a packet: no table at all."""
    return not program.chains


def attach_plan(program: Program, exact: bool = False) -> frozenset[str]:
    """Names of the hooks to queue for this Program; empty for an empty one."""
    if is_empty(program):
        return frozenset()
    if exact:
        return ALL
    hooks = set(CORE)
    for family in FAMILIES:
        used = {hook for _, hook in program.used_hooks[family]}
        if "PREROUTING" in used or "nat" in program.features[family]:
            hooks.add("PREROUTING")
        if "reroutes" in program.features[family] and "OUTPUT" in used:
            hooks.add("POSTROUTING")
    return frozenset(hooks)


def hook_mask(hooks: frozenset[str]) -> int:
    """One bit per hook, as the engine takes them."""
    return sum(1 << HOOKS.index(hook) for hook in hooks)
