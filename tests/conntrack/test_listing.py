"""Lines of the listing, against samples taken from Linux 6.18 and conntrack 1.4.7 (spec/conntrack.md 1.9, 1.10)."""

import dataclasses
import json

from nfqfw.conntrack import listing
from nfqfw.conntrack.entry import Entry, Side

STAMP = 1795447217_001216000


def entry(**changes) -> Entry:
    base = Entry(1, 2237138236, 2, 6, 0, 119, 1, 42, Side("10.0.1.2", "10.0.2.2", 1111, 80), Side("10.0.2.2", "10.0.2.99", 80, 1111))
    return dataclasses.replace(base, **changes)


def test_lines():
    tcp = entry()
    assert listing.line(tcp, 0) == (
        "tcp      6 119 SYN_SENT src=10.0.1.2 dst=10.0.2.2 sport=1111 dport=80 [UNREPLIED] "
        "src=10.0.2.2 dst=10.0.2.99 sport=80 dport=1111 mark=42 use=1")
    assert listing.proc_line(tcp, 0) == (
        "ipv4     2 tcp      6 119 SYN_SENT src=10.0.1.2 dst=10.0.2.2 sport=1111 dport=80 [UNREPLIED] "
        "src=10.0.2.2 dst=10.0.2.99 sport=80 dport=1111 mark=42 zone=0 use=2")
    gre = entry(proto=47, state=0, mark=0, timeout=29, original=Side("10.0.1.2", "10.0.2.2", 0, 7), reply=Side("10.0.2.2", "10.0.1.2", 7, 0))
    assert listing.proc_line(gre, 0) == (
        "ipv4     2 gre      47 29 timeout=30, stream_timeout=180 src=10.0.1.2 dst=10.0.2.2 srckey=0x0 dstkey=0x7 [UNREPLIED] "
        "src=10.0.2.2 dst=10.0.1.2 srckey=0x7 dstkey=0x0 mark=0 zone=0 use=2")


def test_events():
    new = entry(kind="NEW", wall_ns=STAMP, timeout=120)
    assert listing.event_line(new, 0, frozenset({"timestamp", "id"})) == (
        "[1795447217.001216]\t    [NEW] tcp      6 120 SYN_SENT src=10.0.1.2 dst=10.0.2.2 sport=1111 dport=80 [UNREPLIED] "
        "src=10.0.2.2 dst=10.0.2.99 sport=80 dport=1111 mark=42 id=2237138236")
    gone = entry(kind="DESTROY", mark=0, proto=17, state=0, timeout=29, acct=True, start_ns=5 * 10**9, stop_ns=7 * 10**9)
    text = listing.event_line(gone, 0)
    assert text.startswith("[DESTROY] udp      17 29 src=") and " mark=" not in text and text.endswith("packets=0 bytes=0 delta-time=2")
    assert listing.event_line(entry(kind="UPDATE"), 0).startswith(" [UPDATE] tcp ")


def test_json_holds_what_the_line_says():
    told = json.loads(json.dumps(listing.as_dict(entry(status=6))))
    assert told["state"] == "SYN_SENT" and told["original"] == {"src": "10.0.1.2", "dst": "10.0.2.2", "sport": 1111, "dport": 80}
    assert told["replied"] and told["assured"] and told["mark"] == 42
