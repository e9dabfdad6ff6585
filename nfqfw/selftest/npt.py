"""What SNPT and DNPT do to the packet that an ICMPv6 error quotes, where Linux and nfqfw cannot be the same.

Linux translates the quoted end of an error too, but not everywhere: of an error in fragments it changes a copy, and of one that a
raw socket sent it does not know where the transport header is (README; the queue does not tell who sent).  nfqfw translates both.
So of such an error, and only under rules that translate, that one quoted address is not compared.  Everything else is: prefix
translation leaves each checksum as it was (RFC 6296 2.6).
"""

from __future__ import annotations

import re

from nfqfw.selftest.case import Case, Step
from nfqfw.selftest.outcome import Emitted
from nfqfw.selftest.packets import IPV4, Packet

ENDS = {"D": 8, "S": 24}        # rule's letter -> offset in the quoted IPv6 header of the end that DNPT and SNPT translate
ERRORS = (1, 2, 3, 4)
NPT = re.compile(r"-j ([DS])NPT")


def without_quoted(case: Case, steps: list[list[Emitted]]) -> list[list[Emitted]]:
    """What each packet of the case caused, with those addresses zeroed."""
    ends = {ENDS[letter] for letter in NPT.findall(case.rules)} if case.family != IPV4 else set()
    if not ends:
        return steps
    return [[e._replace(data=_zeroed(e.data, ends)) for e in caused] if _quotes(step) else caused
            for step, caused in zip(case.steps, steps, strict=True)]


def _quotes(step: Step) -> bool:
    """The packet is an error (a piece of one) whose quoted header Linux does not find."""
    packet: Packet | None = step.packet.inner if step.packet.proto == "frag" else step.packet if step.point == "local" else None
    return packet is not None and packet.inner is not None


def _zeroed(data: bytes, ends: set[int]) -> bytes:
    kind, at = data[6], 40
    while kind in (0, 43, 60) and at + 2 <= len(data):
        kind, at = data[at], at + 8 * (data[at + 1] + 1)
    quoted = at + 8
    if kind != 58 or len(data) < quoted + 40 or data[at] not in ERRORS:
        return data
    out = bytearray(data)
    for end in ends:
        out[quoted + end:quoted + end + 16] = bytes(16)
    return bytes(out)
