"""What -j CT tells the tracker: zones and the events that are told."""

import pytest

from tests.conntrack.packets import udp
from tests.engine.support import Firewall

RULES = """*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p udp --dport 53 -j CT {options}
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -m conntrack --ctstate INVALID -j DROP
COMMIT
"""


@pytest.mark.parametrize("options, kinds", [
    ("--ctevents new", ["NEW"]), ("--ctevents destroy", ["DESTROY"]), ("--ctevents reply,assured", ["UPDATE"]),
    ("--ctevents new,destroy --zone 5", ["NEW", "DESTROY"]), ("--zone 5", ["NEW", "UPDATE", "DESTROY"])])
def test_only_the_events_asked_for_are_told(options, kinds):
    firewall = Firewall(RULES.format(options=options), hooks=("PREROUTING", "INPUT", "FORWARD", "OUTPUT"))
    firewall.table.listen()
    firewall.cross(udp("10.0.1.2", 5000, "10.0.1.1", 53), 0, "eth0")
    firewall.cross(udp("10.0.1.2", 5000, "10.0.1.1", 53), 1, "eth0")
    entry, = firewall.table.list(now_ns=firewall.now)
    assert entry.original.zone == (5 if "zone" in options else 0)
    firewall.table.change(entry.number, entry.id, status=2)
    firewall.table.flush()
    assert [event.kind for event in firewall.table.events()] == kinds
