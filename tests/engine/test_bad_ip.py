"""bad_ip: what Linux drops before any hook.  The flows' `none` packets, which the kernel's twin was asked about, and what it answers
with an ICMPv6 error of its own."""

from pathlib import Path

import pytest

from nfqfw.packets import FORWARD, INPUT, PREROUTING
from nfqfw.selftest.flow import read_flow
from nfqfw.selftest.packets import build
from tests.engine.support import Firewall

FLOWS = [case for name in ("hostile_ip_rcv4", "hostile_ip_rcv6") for case in read_flow(Path(__file__).parents[1] / f"flows/{name}.flow")]
EVERY = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
ENDS = bytes.fromhex("20010db8000a0000000000000000001020010db8000b00000000000000000010")
UDP = bytes.fromhex("000100350008") + b"\0\0"


@pytest.mark.parametrize("case", FLOWS, ids=lambda case: case.name)
def test_what_the_kernel_lets_no_hook_see_is_bad_ip(case):
    fw = Firewall(hooks=EVERY)
    seen = {True: 0, False: 0}
    for step in case.steps:
        decision = fw.prerouting(build(step.packet, case.family), family=case.family)
        unseen = step.ctstate == "none"
        assert (fw.reason(decision) == "bad_ip") == unseen, step.packet.text()
        seen[unseen] += 1
    assert seen[True] >= 15 and seen[False] >= 5
    assert fw.engine.stats()["drops"] == {"bad_ip": seen[True]} and fw.table.count == 0


def hop_by_hop(options: bytes, payload_length: int | None = None) -> bytes:
    body = bytes((17, len(options) // 8)) + options + UDP
    length = len(body) if payload_length is None else payload_length
    return b"\x60\0\0\0" + length.to_bytes(2, "big") + b"\0\x40" + ENDS + body


@pytest.mark.parametrize("data", [
    hop_by_hop(b"\xc2\4\0\0\0\x10"), hop_by_hop(b"\xc2\4\0\0\0\x10", 0),        # jumbo, but within 65,535: ICMPv6 4/0 (RFC 2675)
    hop_by_hop(b"\xc2\4\0\1\0\0", 0),                                           # says more than there is
    hop_by_hop(b"\x9e\4\0\0\0\0"), hop_by_hop(b"\xde\4\0\0\0\0"),               # unknown: 4/2 (RFC 8200 4.2)
])
def test_what_the_kernel_answers_with_an_error_is_bad_ip(data):
    fw = Firewall(hooks=EVERY)
    assert fw.reason(fw.prerouting(data)) == "bad_ip"


def test_only_what_arrives_is_looked_at_so():
    """ip6_rcv sees neither what this host sends nor what comes by lo: there ::1 is at home."""
    loopback = b"\x60\0\0\0\0\x08\x11\x40" + (b"\0" * 15 + b"\1") * 2 + UDP
    odd = hop_by_hop(b"\x5e\4\0\0\0\0")
    fw = Firewall()
    assert fw.local_out(loopback, ifout="lo").accepted and fw.local_in(loopback, ifin="lo").accepted
    assert fw.local_out(odd).accepted
    for hook in (PREROUTING, INPUT, FORWARD):
        assert fw.reason(Firewall(hooks=EVERY).cross(odd, hook, "eth0", "" if hook != FORWARD else "eth1")) == "bad_ip"


def test_a_cut_capture_is_not_blamed_for_what_is_not_in_it():
    whole = hop_by_hop(b"\x01\4\0\0\0\0")
    assert Firewall(hooks=EVERY).prerouting(whole[:44], total=len(whole)).accepted
