"""The lab: hosts in anonymous network namespaces, joined by veth pairs, for the demo, the tests and the benchmarks.

The default topology, ready when `Lab()` returns (no ARP, no duplicate address detection, forwarding on, lo up):

      client                       firewall                        server
    +--------+                  +------------+                  +--------+
    |   eth0 |------------------| eth0  eth1 |------------------| eth0   |
    +--------+                  +------------+                  +--------+
     10.0.1.2/24          10.0.1.1/24    10.0.2.1/24          10.0.2.2/24
     fd00:1::2/64         fd00:1::1/64   fd00:2::1/64         fd00:2::2/64

    with Lab() as lab:
        server = lab.server.popen(["python3", "-m", "http.server", "80"])
        print(lab.client.run(["curl", "-s", "http://10.0.2.2/"], timeout=5).stdout)

Life-cycle: namespaces have no names; open descriptors of the creator and the processes started in them hold them, and those
processes live in a pid namespace whose first process dies with the creator.  SIGKILL of the creator therefore leaves no
namespace and no process.  `Lab(keep=True)` also names the namespaces under /run/netns, and they stay until `ip netns del`.

Needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN) and iproute2.  Bigger topologies: see `netns.topology`.
"""

from netns.host import Host
from netns.lab import Lab
from netns.topology import DEFAULT, Link, Route, Topology

__all__ = ["DEFAULT", "Host", "Lab", "Link", "Route", "Topology"]
