"""Connection tracking helpers by name: for which protocols the kernel has them, and how many connections they may expect.

A rule `-j CT --helper NAME` puts the number of a helper on a connection; listings show the name and `-m helper` asks for it.
Policies are those of Linux 6.18: at most `most` expectations of one class and master (the oldest goes), each for `seconds`.
Which names -j CT takes was asked of the kernel (tests/conntrack/test_helpers.py asks again).
"""

from __future__ import annotations

from typing import NamedTuple

IPV4, IPV6 = 2, 10
TCP, UDP = 6, 17


class Policy(NamedTuple):
    """One class of expectations."""

    name: str
    most: int                   # 0 = as many as it likes
    seconds: int


class Helper(NamedTuple):
    """One helper; its number is its place in HELPERS plus 1."""

    name: str
    protocols: tuple[int, ...]
    families: tuple[int, ...]
    policies: tuple[Policy, ...]


def _one(name: str, protocols: tuple[int, ...], families: tuple[int, ...], most: int, seconds: int) -> Helper:
    return Helper(name, protocols, families, (Policy("", most, seconds),))


BOTH = (IPV4, IPV6)
HELPERS = (
    _one("ftp", (TCP,), BOTH, 1, 300),
    _one("irc", (TCP,), (IPV4,), 8, 300),
    _one("tftp", (UDP,), BOTH, 1, 300),
    Helper("sip", (TCP, UDP), BOTH, (Policy("signalling", 1, 180), Policy("audio", 4, 180), Policy("video", 4, 180), Policy("image", 2, 180))),
    _one("amanda", (UDP,), BOTH, 4, 180),
    _one("sane", (TCP,), BOTH, 1, 300),
    _one("pptp", (TCP,), (IPV4,), 2, 300),
    _one("H.245", (UDP,), BOTH, 18, 240),       # the kernel registers it for UDP, whatever H.245 itself uses
    _one("Q.931", (TCP,), BOTH, 20, 240),
    _one("RAS", (UDP,), BOTH, 32, 240),
    _one("netbios-ns", (UDP,), (IPV4,), 1, 3),
    _one("snmp", (UDP,), (IPV4,), 1, 30),
    _one("snmp_trap", (UDP,), (IPV4,), 0, 180),
)
POLICIES_MOST = 4                               # classes of one helper
NAMED: set[str] = set()                         # names that rules of this process give to connections; filled when they are compiled


def note(name: str) -> str:
    """What a user of `-j CT --helper NAME` must know of this build."""
    return (f"CT --helper {name}: connections carry the name, but nfqfw does not read their payload yet: "
            "what they announce is expected (RELATED) only if `conntrack -I expect` says so")


def number_of(name: str, proto: int | None = None, family: int | None = None) -> int:
    """Number of the helper of this name (for a protocol and family, if given); 0 = the kernel has none."""
    return next((i for i, h in enumerate(HELPERS, 1)
                 if h.name == name and (proto is None or proto in h.protocols) and (family is None or family in h.families)), 0)


def bits_asked(name: str) -> int:
    """Helpers that `-m helper --helper NAME` means, as bits 1 << number: those whose name NAME begins with; all for ''."""
    return sum(1 << number for number, helper in enumerate(HELPERS, 1) if not name or name.startswith(helper.name))


def name_of(number: int) -> str:
    """Name of a helper's number, '' for 0."""
    return HELPERS[number - 1].name if 0 < number <= len(HELPERS) else ""


def policy_name(number: int, klass: int) -> str:
    """`name`, or `name/class` for a helper with several, as /proc/net/nf_conntrack_expect has it."""
    helper = HELPERS[number - 1]
    policy = helper.policies[klass].name if klass < len(helper.policies) else ""
    return f"{helper.name}/{policy}" if policy else helper.name
