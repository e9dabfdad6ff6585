"""Time-out policies as Python sees them: which trackers have which time-outs, and where policies are kept.

A policy says how long connections of one tracker live in each state.  `-j CT --timeout NAME` gives it to connections; the nfct
command (nfct.py) makes and shows it.  The states, their names and order are those of nfct 1.4.7, the tunables that each stands for
(and that a new policy starts from) those of tunables.py.
"""

from __future__ import annotations

from typing import NamedTuple

from nfqfw.conntrack import tunables
from nfqfw.ext.timeouts import GENERIC, NAME_BYTES

HZ = 250                        # of the kernel that nfct was measured on: it keeps jiffies in 32 bits


class Tracker(NamedTuple):
    """Time-outs of one tracker: tunable number first, first + 1, ...; nfct names the first len(states) of `length`."""

    states: tuple[str, ...]
    first: int
    length: int


def _tracker(first: str, *states: str, unnamed: int = 0) -> Tracker:
    return Tracker(states, tunables.SLOT[first], len(states) + unnamed)


TRACKERS = {                    # by protocol number
    6: _tracker("nf_conntrack_tcp_timeout_syn_sent", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK",
                "TIME_WAIT", "CLOSE", "SYN_SENT2", "RETRANS", "UNACKNOWLEDGED"),
    17: _tracker("nf_conntrack_udp_timeout", "UNREPLIED", "REPLIED"),
    136: _tracker("nf_conntrack_udp_timeout", "UNREPLIED", "REPLIED"),
    1: _tracker("nf_conntrack_icmp_timeout", "TIMEOUT"),
    58: _tracker("nf_conntrack_icmpv6_timeout", "TIMEOUT"),
    47: _tracker("nf_conntrack_gre_timeout", "UNREPLIED", "REPLIED"),
    132: _tracker("nf_conntrack_sctp_timeout_closed", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT",
                  "SHUTDOWN_RECD", "SHUTDOWN_ACK_SENT", unnamed=1),     # heartbeat_sent: a newer kernel's
    GENERIC: _tracker("nf_conntrack_generic_timeout", "TIMEOUT"),
}


class Policy(NamedTuple):
    """One policy; `seconds` in the order of its tracker's tunables."""

    name: str
    family: int                 # 2 or 10
    proto: int                  # key of TRACKERS
    seconds: tuple[int, ...]


def kept_seconds(value: int) -> int:
    """What is left of a number of seconds given to the kernel: it counts jiffies in 32 bits, and 17,179,870 s are none."""
    return (value & 0xFFFFFFFF) * HZ % 2**32 // HZ


def cut(name: str) -> str:
    """A name as it is kept: 31 bytes of it."""
    return name.encode(errors="surrogateescape")[:NAME_BYTES].decode(errors="surrogateescape")


class PolicyList:
    """Policies without a flow table: of a state file, or of a file that is being checked.  TimeoutPolicies does the same on one."""

    def __init__(self) -> None:
        self.rows: dict[str, Policy] = {}
        self.tunables = [tunable.default for tunable in tunables.TUNABLES]

    def list(self) -> list[Policy]:
        """All, in the order in which they were added."""
        return list(self.rows.values())

    def get(self, name: str) -> Policy | None:
        return self.rows.get(name)

    def add(self, policy: Policy) -> None:
        """Names are unique: the caller has looked.  OSError ENOMEM: no room."""
        self.rows[policy.name] = policy

    def delete(self, name: str) -> None:
        """The caller has seen that it is there, and that no rule names it."""
        del self.rows[name]

    def defaults(self, tracker: Tracker) -> tuple[int, ...]:
        """Seconds of the tunables in force."""
        return tuple(self.tunables[tracker.first:tracker.first + tracker.length])

    def set_defaults(self, tracker: Tracker, seconds: tuple[int, ...]) -> None:
        self.tunables[tracker.first:tracker.first + tracker.length] = seconds
