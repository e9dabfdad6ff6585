"""Names of time-out policies (`-j CT --timeout NAME`, `nfct add timeout NAME`): a number each, for templates and flow tables.

A number means the name as long as the process lives, whether or not there is a policy of that name; the table of a process says
which policy it is now (conntrack/_policies.pyx).
"""

from __future__ import annotations

from collections.abc import Iterable

from nfqfw.ext.api import Use

NAME_BYTES = 31                         # CTNL_TIMEOUT_NAME_MAX 32 less NUL: nfct cuts a longer one off
NUMBERS: dict[str, int] = {}            # name -> number from 1; filled when rules or policies name it
NAMES_MOST = 65_535
GENERIC = 255                           # protocol number of the tracker of everything that has no other
TRACKED = (6, 17, 1, 58, 132, 136, 47)  # protocols with a tracker of their own


def number_of(name: str) -> int:
    """Number of a name, which is given one now if it has none; 0 when there are none left."""
    if name not in NUMBERS and len(NUMBERS) >= NAMES_MOST:
        return 0
    return NUMBERS.setdefault(name, len(NUMBERS) + 1)


def tracker_of(proto: int) -> int:
    """Protocol number of the tracker that follows packets of protocol `proto`."""
    return proto if proto in TRACKED else GENERIC


def policies_of(rules: Iterable) -> Iterable[str]:
    """Names of the policies that CT rules among these give to connections."""
    return (rule.target.values["timeout"] for rule in rules
            if type(rule.target) is Use and rule.target.name == "CT" and rule.target.values.get("timeout"))
