"""The nf_conntrack_* settings: names, defaults, units and ranges of the kernel, as one table.

The C side keeps them as an array of u32 in this order (`enum Tunable` of `table.pxd`; a test compares).  Values are
what the kernel shows in /proc/sys/net/netfilter on Linux 6.18 with more than 4 GiB of memory.
"""

from typing import NamedTuple

from nfqfw.limits import FRAGMENT_TIMEOUT_V6

SECONDS_MAX = 21_474_836        # ConnHot.expires counts hundredths of a second in 31 bits


class Tunable(NamedTuple):
    """One setting: value in `low..high`, in `unit` ("s", "bool", "entries", "bytes" or "")."""

    name: str
    default: int
    low: int
    high: int
    unit: str


def _seconds(name: str, default: int) -> Tunable:
    return Tunable(name, default, 0, SECONDS_MAX, "s")


def _switch(name: str, default: int) -> Tunable:
    return Tunable(name, default, 0, 1, "bool")


TUNABLES = (
    _switch("nf_conntrack_acct", 0),
    _switch("nf_conntrack_checksum", 1),
    Tunable("nf_conntrack_events", 2, 0, 2, ""),                # 2 = while somebody listens
    Tunable("nf_conntrack_expect_max", 4096, 1, 2**31 - 1, "entries"),
    _switch("nf_conntrack_timestamp", 0),
    Tunable("nf_conntrack_log_invalid", 0, 0, 255, ""),         # protocol number; 255 = every protocol
    Tunable("nf_conntrack_max", 262_144, 0, 2**31 - 1, "entries"),
    _switch("nf_conntrack_tcp_be_liberal", 0),
    _switch("nf_conntrack_tcp_loose", 1),
    _switch("nf_conntrack_tcp_ignore_invalid_rst", 0),
    Tunable("nf_conntrack_tcp_max_retrans", 3, 0, 255, ""),
    # in the order of the TCP states 1..9, so that state + TCP_TIMEOUT is the slot
    _seconds("nf_conntrack_tcp_timeout_syn_sent", 120),
    _seconds("nf_conntrack_tcp_timeout_syn_recv", 60),
    _seconds("nf_conntrack_tcp_timeout_established", 432_000),
    _seconds("nf_conntrack_tcp_timeout_fin_wait", 120),
    _seconds("nf_conntrack_tcp_timeout_close_wait", 60),
    _seconds("nf_conntrack_tcp_timeout_last_ack", 30),
    _seconds("nf_conntrack_tcp_timeout_time_wait", 120),
    _seconds("nf_conntrack_tcp_timeout_close", 10),
    _seconds("tcp_timeout_syn_sent2", 120),                     # the kernel has it, but no sysctl for it
    _seconds("nf_conntrack_tcp_timeout_max_retrans", 300),
    _seconds("nf_conntrack_tcp_timeout_unacknowledged", 300),
    _seconds("nf_conntrack_udp_timeout", 30),
    _seconds("nf_conntrack_udp_timeout_stream", 120),
    _seconds("nf_conntrack_icmp_timeout", 30),
    _seconds("nf_conntrack_icmpv6_timeout", 30),
    _seconds("nf_conntrack_generic_timeout", 600),
    _seconds("nf_conntrack_gre_timeout", 30),
    _seconds("nf_conntrack_gre_timeout_stream", 180),
    # in the order of the SCTP states 1..8
    _seconds("nf_conntrack_sctp_timeout_closed", 10),
    _seconds("nf_conntrack_sctp_timeout_cookie_wait", 3),
    _seconds("nf_conntrack_sctp_timeout_cookie_echoed", 3),
    _seconds("nf_conntrack_sctp_timeout_established", 210),
    _seconds("nf_conntrack_sctp_timeout_shutdown_sent", 3),
    _seconds("nf_conntrack_sctp_timeout_shutdown_recd", 3),
    _seconds("nf_conntrack_sctp_timeout_shutdown_ack_sent", 3),
    _seconds("nf_conntrack_sctp_timeout_heartbeat_sent", 30),
    _seconds("nf_conntrack_frag6_timeout", FRAGMENT_TIMEOUT_V6),
    Tunable("nf_conntrack_frag6_high_thresh", 4 << 20, 0, 2**32 - 1, "bytes"),
    Tunable("nf_conntrack_frag6_low_thresh", 3 << 20, 0, 2**32 - 1, "bytes"),
)

SLOT = {tunable.name: slot for slot, tunable in enumerate(TUNABLES)}


def check(name: str, value: int) -> int:
    """Slot of a settable tunable after its range was checked; ValueError says what is wrong."""
    slot = SLOT.get(name)
    if slot is None or not name.startswith("nf_conntrack_"):
        raise ValueError(f"{name}: no such setting")
    tunable = TUNABLES[slot]
    if not tunable.low <= value <= tunable.high:
        raise ValueError(f"{name}: {value} is not in {tunable.low}..{tunable.high}")
    return slot
