"""The lab itself: connectivity, isolation, and that nothing of it survives its creator."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from netns import Lab, Link, Route, Topology, offload
from netns.processes import CallFailed

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

CHAIN = Topology(
    hosts=("a", "r", "b"),
    links=(Link("r", "a", "192.0.2.0/24", mtu=1400), Link("r", "b", "198.51.100.0/24")),
    routes=(Route("a", "default", "192.0.2.1"), Route("b", "default", "198.51.100.1")),
)


@pytest.fixture(scope="module")
def lab():
    with Lab() as lab:
        yield lab


@pytest.mark.parametrize("address", ["10.0.1.1", "10.0.2.2", "fd00:1::1", "fd00:2::2"])
def test_client_reaches_everybody_at_once(lab, address):
    done = lab.client.run(["ping", "-c", "1", "-W", "1", address])
    assert done.returncode == 0, done.stdout


def test_tcp_by_sockets_made_in_hosts(lab):
    with lab.server.socket() as listener, lab.client.socket() as client:
        listener.bind(("10.0.2.2", 8080))
        listener.listen()
        client.settimeout(2)
        client.connect(("10.0.2.2", 8080))
        peer, (address, _) = listener.accept()
        peer.close()
    assert address == lab.client.address()


def test_entered_returns_to_the_callers_namespace(lab):
    own = os.readlink("/proc/thread-self/ns/net")
    with lab.client.entered():
        assert os.readlink("/proc/thread-self/ns/net") != own
    assert os.readlink("/proc/thread-self/ns/net") == own


def test_programs_see_the_labs_processes_and_the_hosts_interfaces(lab):
    assert lab.firewall.run(["ls", "/sys/class/net"]).stdout.split() == ["eth0", "eth1", "lo"]
    assert lab.client.run(["ps", "-p", "1", "-o", "args="]).stdout.rstrip().endswith("netns/_init.py")


def test_working_directory_and_input(lab, tmp_path):
    assert lab.client.run(["pwd"], cwd=tmp_path).stdout.strip() == str(tmp_path)
    assert lab.client.run(["cat"], input="x\n").stdout == "x\n"


def test_run_kills_on_timeout(lab):
    start = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        lab.client.run(["sleep", "30"], timeout=0.2)
    assert time.monotonic() - start < 5


def test_call_returns_the_result_or_the_traceback(lab):
    assert sorted(name for _, name in lab.firewall.call(socket.if_nameindex)) == ["eth0", "eth1", "lo"]
    with pytest.raises(CallFailed, match="ZeroDivisionError"):
        lab.firewall.call(divmod, 1, 0)


def test_sysctls_are_the_hosts_own(lab):
    lab.client.set_sysctl("net.ipv4.ip_default_ttl", 77)
    assert lab.client.get_sysctl("net.ipv4.ip_default_ttl") == "77"
    assert lab.server.get_sysctl("net.ipv4.ip_default_ttl") != "77"
    with pytest.raises(ValueError):
        lab.client.set_sysctl("vm.swappiness", 1)


def test_offloads_can_be_switched(lab):
    for wanted in (False, True):
        lab.client.set_offloads(gso=wanted, gro=wanted)
        with lab.client.entered():
            assert (offload.is_on("eth0", "gso"), offload.is_on("eth0", "gro")) == (wanted, wanted)
    with pytest.raises(KeyError):
        lab.client.set_offloads(warp=True)


def test_own_topology_with_mtu():
    with Lab(CHAIN) as lab:
        assert lab.a.run(["ping", "-c", "1", "-W", "1", "198.51.100.2"]).returncode == 0
        assert "mtu 1400" in lab.a.run(["ip", "link", "show", "eth0"]).stdout
        lab.add_host("c")
        lab.connect([Link("r", "c", "203.0.113.0/24")], [Route("c", "default", "203.0.113.1")])
        assert lab.c.run(["ping", "-c", "1", "-W", "1", "198.51.100.2"]).returncode == 0


def test_close_ends_the_processes_and_twice_is_fine():
    lab = Lab()
    sleeper = lab.client.popen(["sleep", "60"])
    lab.close()
    lab.close()
    assert sleeper.returncode == -signal.SIGKILL


CREATOR = """
import sys, time
from netns import Lab
lab = Lab()
sleeper = lab.client.popen(["sh", "-c", "setsid sleep 4242 & sleep 4242"])
print(lab._processes._init.pid, sleeper.pid, flush=True)
time.sleep(60)
"""


def test_sigkill_of_the_creator_leaves_nothing():
    root = str(Path(__file__).parents[2])
    creator = subprocess.Popen([sys.executable, "-c", CREATOR], stdout=subprocess.PIPE, text=True, cwd=root)
    init, sleeper = map(int, creator.stdout.readline().split())
    space = os.stat(f"/proc/{sleeper}/ns/net").st_ino
    assert _holders(space) >= {sleeper}
    creator.kill()
    creator.wait()
    creator.stdout.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and (_holders(space) or _alive(init)):
        time.sleep(0.02)
    assert not _holders(space)
    assert not _alive(init)


def test_keep_names_the_namespaces():
    with Lab(keep=True) as lab:
        names = [f"{lab.prefix}-{name}" for name in lab.hosts]
    try:
        for name in names:
            assert subprocess.run(["ip", "netns", "exec", name, "true"]).returncode == 0
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=True)


def _holders(space: int) -> set[int]:
    """Pids whose network namespace this is (zombies have none)."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.stat(entry / "ns/net").st_ino == space:
                found.add(int(entry.name))
        except OSError:
            pass
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
