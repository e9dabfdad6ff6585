"""NFQFW_STATE=FILE through the programs: no daemon, no root, both families, nothing torn."""

import os
import shutil
import subprocess
import sys
import tempfile

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def without_rights() -> list[str]:
    """How to start a program as a user without rights: as nobody, or without capabilities where nobody cannot read this checkout."""
    if os.geteuid() != 0:
        return []
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    probe = subprocess.run([*nobody, sys.executable, "-c", "import nfqfw"], env={**os.environ, "PYTHONPATH": ROOT}, cwd="/", check=False,
                           capture_output=True, timeout=60)
    return nobody if probe.returncode == 0 else ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


NOBODY = without_rights()


@pytest.fixture
def state():
    """Path of a state file in a directory that everybody may write to."""
    with tempfile.TemporaryDirectory(prefix="nfqfw-state-", dir="/tmp") as directory:
        os.chmod(directory, 0o777)
        yield os.path.join(directory, "rules")


def tool(state, *argv, code=0, text=None):
    """Run one applet as a user without rights."""
    done = subprocess.run([*NOBODY, sys.executable, "-m", "nfqfw", *argv], input=text, capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, "PYTHONPATH": ROOT, "NFQFW_STATE": state, "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == code, (argv, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def test_no_root_no_daemon_both_families(state):
    tool(state, "iptables", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-c", "3", "180", "-j", "ACCEPT")
    tool(state, "ip6tables", "-P", "FORWARD", "DROP")
    assert "[3:180] -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n" in tool(state, "iptables-save", "-c")
    assert ":FORWARD DROP [0:0]\n" in tool(state, "ip6tables-save")
    assert sorted(os.listdir(os.path.dirname(state))) == ["rules", "rules.lock", "rules.v6"]
    assert not os.path.exists(os.environ["NFQFW_RUN_DIR"] + "/control")


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("iptables-legacy-restore"), reason="needs root and iptables-legacy")
def test_the_real_tool_reads_what_it_writes(state):
    tool(state, "iptables", "-A", "INPUT", "-s", "10.0.0.0/8", "-m", "mark", "--mark", "1", "-c", "3", "180", "-j", "DROP")
    program = f"iptables-legacy-restore -c < {state} && iptables-legacy-save -c -t filter"
    saved = subprocess.run(["unshare", "-n", "sh", "-c", program], capture_output=True, text=True, timeout=30, check=True,
                           env={**os.environ, "XTABLES_LOCKFILE": state + ".xtables"}).stdout
    with open(state, encoding="ascii") as file:
        assert [line for line in file if line[0] != "#"] == [line + "\n" for line in saved.splitlines() if line[0] != "#"]


def test_failed_command_leaves_the_file_alone(state):
    tool(state, "iptables", "-N", "web")
    before = os.stat(state)
    tool(state, "iptables", "-A", "web", "-j", "nosuch", code=2)
    tool(state, "iptables-restore", text="*filter\n-A INPUT -j DROP\n-A nosuch -j DROP\nCOMMIT\n", code=1)
    after = os.stat(state)
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_restore_is_all_tables_or_none(state):
    """iptables-legacy-restore would keep the first table here."""
    tool(state, "iptables", "-N", "web")
    before = tool(state, "iptables-save")
    tool(state, "iptables-restore", text="*mangle\n-A INPUT -j DROP\nCOMMIT\n*filter\n-A nosuch -j DROP\nCOMMIT\n", code=1)
    assert tool(state, "iptables-save").split("\n")[1:-2] == before.split("\n")[1:-2]


def test_broken_file_is_an_error_with_its_place(state):
    with open(state, "w", encoding="ascii") as file:
        file.write("*filter\n-A INPUT -p tcp --dport 70000 -j DROP\nCOMMIT\n")
    assert f"{state}:2:" in tool(state, "iptables", "-L", code=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a directory that the other user may only read")
def test_read_only_place_can_be_read(state):
    if os.geteuid() == 0 and "--reuid" not in NOBODY:
        pytest.skip("nobody cannot read this checkout, and the owner of the place can write to it")
    tool(state, "iptables", "-N", "web")
    os.unlink(state + ".lock")
    os.chmod(os.path.dirname(state), 0o755)
    assert "-N web" in tool(state, "iptables", "-S")
    assert "Permission denied" in tool(state, "iptables", "-N", "more", code=1)


def test_policies_of_a_state_file(state):
    """FILE.nfct; without one any name is taken, with one a rule needs its policy and keeps it from going."""
    rule = ("iptables", "-t", "raw", "-A", "OUTPUT", "-p", "udp", "-j", "CT", "--timeout")
    tool(state, *rule, "whatever")
    tool(state, "nfct", "add", "timeout", "brief", "inet", "udp", "replied", "5")
    assert tool(state, "nfct", "--save") == "add timeout brief inet udp unreplied 30 replied 5\n"
    assert "No chain/target/match by that name" in tool(state, "iptables", "-t", "raw", "-A", "OUTPUT", "-p", "udp", "-j", "CT", "--timeout", "x", code=1)
    tool(state, "iptables", "-t", "raw", "-F")
    tool(state, *rule, "brief")
    assert "Device or resource busy" in tool(state, "nfct", "delete", "timeout", "brief", code=1)
    tool(state, "iptables", "-t", "raw", "-F")
    tool(state, "nfct", "delete", "timeout", "brief")
    assert tool(state, "nfct", "list", "timeout") == ""
    assert "no settings" in tool(state, "nfct", "default-set", "timeout", "inet", "udp", "replied", "5", code=1)
