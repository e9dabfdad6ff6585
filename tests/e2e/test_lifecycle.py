"""A run from start to end and what happens when it ends otherwise: killed, refused, started twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from netns import Lab
from nfqfw import attach
from tests.e2e.firewalls import EMPTY, ROOT, NfqfwFirewall
from tests.e2e.probes import ANSWERED, CONNECTED, SILENCE, listening, ping, tcp
from tests.tinyqueue import TinyQueue

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

STATEFUL = """
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i eth0 -j ACCEPT
COMMIT
"""
OPEN = EMPTY.replace("COMMIT", "-A FORWARD -p tcp -m tcp --dport 9999 -j DROP\nCOMMIT")


@pytest.fixture(scope="module")
def lab():
    with Lab() as lab:
        yield lab


@pytest.fixture
def firewall(lab, tmp_path):
    with NfqfwFirewall(lab.firewall, tmp_path) as firewall:
        yield firewall


def nfqfw(host, *arguments) -> subprocess.CompletedProcess:
    return host.run([sys.executable, "-m", "nfqfw", *arguments], cwd=ROOT)


def tables(host) -> str:
    return host.run(["nft", "list", "ruleset"], check=True).stdout


def through(lab) -> str:
    return ping(lab.client, lab.server.address())


def test_run_filters_and_leaves_nothing(lab, firewall):
    assert through(lab) == ANSWERED
    firewall.load(STATEFUL)
    assert through(lab) == ANSWERED
    assert ping(lab.server, lab.client.address()) == SILENCE
    firewall.stop()
    assert tables(lab.firewall) == ""
    assert ping(lab.server, lab.client.address()) == ANSWERED


def test_sigterm_is_as_good_as_ctrl_c(lab, firewall):
    firewall.load(STATEFUL)
    firewall.process.terminate()
    assert firewall.process.wait(20) == 0
    assert tables(lab.firewall) == ""


def test_killed_traffic_stops_next_run_adopts(lab, firewall):
    firewall.load(OPEN)
    assert through(lab) == ANSWERED
    firewall.kill()
    assert through(lab) == SILENCE
    firewall.load(STATEFUL)
    assert through(lab) == ANSWERED
    assert ping(lab.server, lab.client.address()) == SILENCE
    firewall.stop()
    assert tables(lab.firewall) == ""


def test_killed_then_down_cleans(lab, firewall):
    firewall.load(OPEN)
    firewall.kill()
    assert through(lab) == SILENCE
    done = nfqfw(lab.firewall, "down")
    assert done.returncode == 0, done.stderr
    assert tables(lab.firewall) == ""
    assert through(lab) == ANSWERED


def test_connection_outlives_nothing_but_established_needs_state(lab, firewall):
    """A connection made before the run is picked up in the middle (nf_conntrack_tcp_loose) from the client's side."""
    with listening(lab.server, [80]), lab.client.socket() as own:
        own.connect((lab.server.address(), 80))
        firewall.load(STATEFUL)
        own.settimeout(2)
        own.send(b"x")
        own.close()
        assert tcp(lab.client, lab.server.address(), 80) == CONNECTED
        assert tcp(lab.server, lab.client.address(), 80) == SILENCE


@pytest.mark.parametrize("text, code", [("*filter\n-A FORWARD -j NOWHERE\nCOMMIT\n", 3), ("*filter\n:FORWARD DROP\n-A FORWARD -p\nCOMMIT\n", 3),
                                        ("hello\n", 3)])
def test_a_broken_ruleset_attaches_nothing(lab, tmp_path, text, code):
    (tmp_path / "broken").write_text(text)
    done = nfqfw(lab.firewall, "run", str(tmp_path / "broken"))
    assert done.returncode == code, done
    assert f"{tmp_path / 'broken'}:" in done.stderr and "Traceback" not in done.stderr
    assert tables(lab.firewall) == ""
    assert through(lab) == ANSWERED


def test_a_missing_file(lab, tmp_path):
    done = nfqfw(lab.firewall, "run", str(tmp_path / "none"))
    assert done.returncode == 2 and "none" in done.stderr and "Traceback" not in done.stderr
    assert tables(lab.firewall) == ""


def test_a_queue_of_another_process(lab, tmp_path):
    (tmp_path / "rules").write_text(STATEFUL)
    with lab.firewall.entered(), TinyQueue(0):
        done = nfqfw(lab.firewall, "run", str(tmp_path / "rules"))
        assert done.returncode == 4, done
        assert "queue 0" in done.stderr and "Traceback" not in done.stderr
        assert attach.find() is None
    assert through(lab) == ANSWERED


def test_without_root(lab, tmp_path):
    (tmp_path / "rules").write_text(STATEFUL)
    tmp_path.chmod(0o755)
    argv = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", sys.executable, "-m", "nfqfw", "run", str(tmp_path / "rules")]
    done = lab.firewall.run(argv, cwd=ROOT)
    assert done.returncode == 4 and "Traceback" not in done.stderr, done
    assert tables(lab.firewall) == ""


def test_a_second_run_is_refused_and_the_first_goes_on(lab, firewall, tmp_path):
    firewall.load(STATEFUL)
    (tmp_path / "second").write_text(STATEFUL)
    done = nfqfw(lab.firewall, "run", str(tmp_path / "second"))
    assert done.returncode == 4 and "Traceback" not in done.stderr, done
    assert through(lab) == ANSWERED
    assert ping(lab.server, lab.client.address()) == SILENCE
    firewall.stop()


def test_sigkill_of_the_demo_leaves_no_process_and_no_namespace():
    demo = subprocess.Popen([sys.executable, "-m", "nfqfw", "demo", "--duration", "30", "--json"], cwd=ROOT, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)
    try:
        _until(lambda: any(" run " in words for words in _descendants(demo.pid).values()), 20)
        family = _descendants(demo.pid)
        spaces = {_namespace(pid) for pid in family} - {_namespace(os.getpid()), None}
    finally:
        demo.kill()
        demo.wait()
    assert len(family) >= 2 and spaces      # the pid namespace's init, nfqfw run, …
    _until(lambda: all(_namespace(pid) not in spaces for pid in _processes()), 5)
    _until(lambda: not family.keys() & _living(), 5)


def _processes() -> set[int]:
    return {int(entry.name) for entry in Path("/proc").glob("[0-9]*")}


def _stat(pid: int) -> list[str]:
    """Fields of /proc/pid/stat from the state on; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


def _living() -> set[int]:
    return {pid for pid in _processes() if (fields := _stat(pid)) and fields[0] != "Z"}


def _namespace(pid: int) -> int | None:
    """Inode of the process's network namespace; it has none when it is dead."""
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return None


def _descendants(root: int) -> dict[int, str]:
    """pid: command line of every process below `root`."""
    parents = {pid: int(fields[1]) for pid in _processes() if (fields := _stat(pid))}
    found: dict[int, str] = {}
    level = {root}
    while level := {pid for pid, parent in parents.items() if parent in level}:
        for pid in level:
            try:
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
    return found


def _until(condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def test_loading_a_label_says_that_it_stays_here(lab, firewall):
    """The kernel's labels belong to its LSM, and a queue carries none (an LSM that takes them is not in use on the test machines)."""
    firewall.load("*security\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"
                  "-A FORWARD -j SECMARK --selctx system_u:object_r:ssh_t:s0\nCOMMIT\n")
    firewall.stop()
    assert "SECMARK: the label stays inside nfqfw" in (firewall.directory / "stderr").read_text()
