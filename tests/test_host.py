"""Host facts: the block's layout against `_host.pxd`, the live reading against `ip -j`, changes, snapshots."""

import json
import os
import re
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from netns import Lab
from nfqfw import _hostblock, _hostjson
from nfqfw._hostblock import ADDRESS, HEADER, INTERFACE, ROUTE
from nfqfw.errors import NfqfwError
from nfqfw.host import Host

ROOT = Path(__file__).parents[1]
needs_root = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
CODES = {"uint8_t": "B", "uint16_t": "H", "uint32_t": "I", "uint64_t": "Q", "char[16]": "16s", "uint8_t[16]": "16s"}

EXTRAS = (                      # of the live firewall: a bridge with group, secondary and peer addresses, routes of every kind
    "link add br0 type bridge", "link set br0 up group 7 mtu 1400", "address add 192.0.2.1/24 dev br0 brd +",
    "address add 192.0.2.2/24 dev br0", "address add 198.51.100.1 peer 198.51.100.2/32 dev br0",
    "route add blackhole 203.0.113.0/24", "route add default via 10.0.2.2 metric 5 mtu 1400 src 10.0.2.1 realm 9",
    "route add 100.64.0.0/10 nexthop via 10.0.2.2 nexthop via 10.0.1.2", "route add ::/0 via fd00:2::2",
    "link add v0 type veth peer name v1", "link set v0 master br0", "route add 10.9.0.0/16 via 10.0.1.2 table 77",
)


def sections(block: bytes):
    """(header values, interfaces, addresses, routes) as tuples."""
    header = HEADER.unpack_from(block)
    tables = [[layout.unpack_from(block, header[4 + 2 * i] + n * layout.size) for n in range(header[3 + 2 * i])]
              for i, layout in enumerate((INTERFACE, ADDRESS, ROUTE))]
    return header, *tables


@pytest.mark.parametrize("name, layout", [("Interface", INTERFACE), ("HostAddress", ADDRESS), ("HostRoute", ROUTE),
                                          ("HostHeader", HEADER)])
def test_layouts_are_those_of_the_header(name, layout):
    text = (ROOT / "nfqfw/_host.pxd").read_text()
    body = text.split(f"cdef struct {name}:")[1].split("\n\n\n")[0]
    fields = re.findall(r"^    (uint\d+_t|char) +\w+(\[16\])?", body, re.M)
    expected = "<" + "".join(CODES[kind + array] for kind, array in fields)
    assert struct.calcsize(expected) == layout.size
    assert re.sub(r"\d+I", lambda m: "I" * int(m[0][:-1]), layout.format) == expected


def test_offline_block():
    host = Host.offline({"eth0": ["10.0.1.1/24", "fd00:1::1/64"], "eth1": {"addresses": ["10.0.2.1/30"], "mtu": 9000, "index": 9}},
                        ["default via 10.0.2.2"], {"net.ipv4.icmp_ratelimit": 0})
    header, interfaces, addresses, routes = sections(host.block)
    assert header[:3] == (_hostblock.HOST_MAGIC, len(host.block), 1)
    assert header[9] == 0 and header[14] == 64
    assert [(row[0], row[2].rstrip(b"\0"), row[3]) for row in interfaces] == [(1, b"lo", 65536), (2, b"eth0", 1500), (9, b"eth1", 9000)]
    assert [row[5][:4] for row in addresses if row[1] == 2] == [bytes((10, 0, 1, 1)), bytes((10, 0, 2, 1)), bytes((127, 0, 0, 1))]
    assert [row[6][:4] for row in addresses if row[1] == 2][:2] == [bytes((10, 0, 1, 255)), bytes((10, 0, 2, 3))]
    assert [row[1] for row in addresses] == sorted(row[1] for row in addresses)
    default = [row for row in routes if row[0] == 2][-1]
    assert (default[1], default[5], default[7][:4]) == (0, 9, bytes((10, 0, 2, 2)))
    assert [row[1] for row in routes if row[0] == 2] == [32, 32, 32, 30, 24, 0]
    assert (host.name(9), host.index("eth0"), host.name(4), host.index("x")) == ("eth1", 2, None, None)
    assert host.largest_mtu() == 9000


@pytest.mark.parametrize("route", ["default", "default via", "10.0.0.0/8 via 192.0.2.1", "10.0.0.0/8 dev nope", "x dev eth0"])
def test_offline_refuses_routes_that_lead_nowhere(route):
    with pytest.raises(ValueError):
        Host.offline({"eth0": ["10.0.1.1/24"]}, [route])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"addr": 3}', '{"addr": [{"ifname": "x"}]}', "\0"])
def test_a_file_that_is_no_snapshot(tmp_path, text):
    (tmp_path / "s").write_text(text)
    with pytest.raises(NfqfwError, match="not a host snapshot"):
        Host.snapshot(tmp_path / "s")


def test_a_missing_snapshot(tmp_path):
    with pytest.raises(NfqfwError, match="No such file"):
        Host.snapshot(tmp_path / "s")


def test_offline_imports_no_netlink():
    code = "import sys; from nfqfw.host import Host; Host.offline({}); print([m for m in sys.modules if 'netlink' in m or 'pyroute' in m])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout.strip() == "[]"


def test_saved_and_read_back(tmp_path):
    host = Host.offline({"eth0": ["10.0.1.1/24", "fd00:1::1/64"], "br0": {"group": 5, "master": 2}}, ["::/0 via fd00:1::2"])
    host.save(tmp_path / "s")
    assert Host.snapshot(tmp_path / "s").facts == host.facts


@pytest.fixture(scope="module")
def lab():
    with Lab() as lab:
        lab.firewall.ip(*EXTRAS)
        yield lab


class TestLive:
    pytestmark = needs_root

    @pytest.fixture
    def host(self, lab):
        with lab.firewall.entered(), Host.live() as host:
            yield host

    def test_equals_what_ip_says(self, lab, host, tmp_path):
        def ip(*words):
            return json.loads(lab.firewall.run(["ip", "-j", *words], check=True).stdout)

        document = {"addr": ip("-d", "addr"), "route": ip("-4", "route", "show", "table", "all") + ip("-6", "route", "show", "table", "all")}
        (tmp_path / "s").write_text(json.dumps(document))
        said = Host.snapshot(tmp_path / "s").facts
        assert host.facts.interfaces == said.interfaces
        assert host.facts.addresses == said.addresses
        assert host.facts.routes == said.routes
        assert len(host.facts.routes) > 20 and all(route.table != 77 for route in host.facts.routes)

    def test_saved_and_read_back(self, host, tmp_path):
        host.save(tmp_path / "s")
        assert Host.snapshot(tmp_path / "s").facts == host.facts

    def test_broadcasts_are_those_of_the_local_table(self, host):
        """Of addresses outside lo, whose 127/8 has its own rule."""
        routed = {str(route.destination) for route in host.facts.routes if route.type == 3 and route.ifindex != 1}
        ours = {str(_hostblock.broadcast_of(a)) for a in host.facts.addresses if a.family == 2 and a.ifindex != 1 and a.prefix < 31}
        assert ours == routed

    def test_sysctls(self, lab, host):
        assert dict(zip(_hostblock.SYSCTLS, host.facts.sysctls)) == {
            name: int(lab.firewall.get_sysctl(name)) for name in _hostblock.SYSCTLS}

    def test_largest_mtu_leaves_lo_out(self, host):
        assert host.largest_mtu() == 1500

    def test_a_change_replaces_the_block_once_per_burst(self, lab):
        changed, seen = threading.Event(), []

        def note(host):
            seen.append((host.generation, host.index("later"), host.block))
            if host.index("later"):
                changed.set()

        with lab.firewall.entered(), Host.live(note) as host:
            before = host.block
            lab.firewall.ip("link add later type bridge", *(f"address add 192.0.2.{n}/32 dev later" for n in range(100, 150)))
            try:
                assert changed.wait(3)
                addresses = {str(address.address) for address in host.facts.addresses}
                for _ in range(100):
                    if "192.0.2.149" in addresses:
                        break
                    changed.clear()
                    changed.wait(0.05)
                    addresses = {str(address.address) for address in host.facts.addresses}
                assert "192.0.2.149" in addresses
            finally:
                lab.firewall.ip("link del later")
        assert seen[0][0] == 2 and seen[0][2] != before
        assert len(seen) < 10

    def test_a_changed_sysctl_is_noticed(self, lab):
        changed = threading.Event()
        with lab.server.entered(), Host.live(lambda host: changed.set()) as host:
            lab.server.set_sysctl("net.ipv4.ip_default_ttl", 99)
            assert changed.wait(5)
            assert HEADER.unpack_from(host.block)[14] == 99

    def test_many_routes_under_churn_do_not_take_all_the_time(self, lab):
        """5,000 routes and a hundred changes in a row: a few readings, and the last one is right."""
        lab.server.ip(*(f"route add 100.64.{number >> 6}.{number % 64 * 4}/30 via 10.0.2.1" for number in range(5000)))
        with lab.server.entered(), Host.live() as host:
            for number in range(100):
                lab.server.ip(f"route replace 198.51.100.{number}/32 via 10.0.2.1")
            deadline = time.monotonic() + 3
            while not any(str(route.destination) == "198.51.100.99" for route in host.facts.routes):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert sum(route.prefix == 30 for route in host.facts.routes) == 5000
            assert host.generation < 30             # coalesced: not one reading per change

    def test_losses_are_told_even_if_they_came_back(self, lab):
        lost, told = [], threading.Event()
        lab.firewall.ip("link add gone type bridge", "address add 192.0.2.77/24 dev gone", "address add 2001:db8::7/64 dev gone nodad",
                        "link set gone up")
        with lab.firewall.entered(), Host.live(on_loss=lambda losses: (lost.extend(losses), told.set())) as host:
            index = host.index("gone")
            lab.firewall.ip("address del 192.0.2.77/24 dev gone", "address add 192.0.2.77/24 dev gone", "link set gone down",
                            "link set gone up")
            assert told.wait(2)
            time.sleep(0.1)
            lab.firewall.ip("link del gone")
        assert {(index, bytes((192, 0, 2, 77))), (index, None)} <= set(lost)

    def test_closing_ends_the_thread(self, lab):
        with lab.firewall.entered():
            before = threading.active_count()
            Host.live().close()
            assert threading.active_count() == before
