"""Our trackers beside the kernel's: after every packet of a random conversation class, state, SEEN_REPLY, ASSURED and time-out agree.

NFQFW_CONVERSATIONS=20000 runs that many per protocol (about a minute per 10,000); the default is a quick look.
"""

import os
import zlib

import pytest

from nfqfw.selftest.kernel import missing
from tests.conntrack.packets import icmp
from tests.conntrack.sequences import CONVERSATIONS, ENDS
from tests.conntrack.twin import Key, Twins

COUNT = int(os.environ.get("NFQFW_CONVERSATIONS", "150"))
pytestmark = [pytest.mark.netns, pytest.mark.skipif(bool(missing()), reason=missing() or "runs")]


def first_difference(twins: Twins, key: Key, packets) -> str:
    """Empty, or the conversation up to the packet after which the two disagree."""
    twins.fresh()
    story = []
    swapped = Key(key.proto, key.dst, key.src, key.b, key.a)
    for point, data in packets:
        theirs, ours = twins.send(point, data, key)
        if theirs.state is None and ours.state is None and key.proto not in (1, 58):
            theirs, ours = twins.look(swapped, theirs.ctstate, ours.ctstate)       # the server may have started it
        story.append(f"{point} {data.hex()} -> {theirs}")
        if not theirs.agrees(ours):
            return "\n".join(story) + f"\nours: {ours}"
    return ""


@pytest.mark.parametrize("name, settings", [
    ("tcp", {}), ("tcp", {"nf_conntrack_tcp_be_liberal": 1}), ("tcp", {"nf_conntrack_tcp_loose": 0}),
    ("tcp", {"nf_conntrack_tcp_ignore_invalid_rst": 1}), ("tcp", {"nf_conntrack_tcp_max_retrans": 0}),
    ("sctp", {}), ("udp", {}), ("icmp", {}), ("udp", {"nf_conntrack_checksum": 0}),
])
def test_random_conversations_agree(name, settings):
    first = zlib.crc32(repr((name, settings)).encode()) % 1_000_000
    with Twins(**settings) as twins:
        for seed in range(first, first + COUNT):
            story = first_difference(twins, *CONVERSATIONS[name](seed))
            assert not story, f"{name} seed {seed}\n{story}"


def test_the_comparison_can_fail():
    """A tracker with another time-out is told apart."""
    with Twins() as twins:
        twins.ours.set("nf_conntrack_icmp_timeout", 20)
        client, server = ENDS[4]
        key = Key(1, client, server, 7, 8 << 8)
        theirs, ours = twins.send("client", icmp(client, server, 8, ident=7), key)
        assert (theirs.timeout, ours.timeout) in ((30, 20), (29, 20)) and not theirs.agrees(ours)
