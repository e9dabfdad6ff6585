"""Many writers at once, and traffic meanwhile: nothing lost, nothing torn, no packet judged by half a ruleset."""

import os

import pytest

from nfqfw.rules.store import FileStore

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces")]

WRITERS = 8
LIVE_COMMANDS, STATE_COMMANDS = 200, 40         # of each writer

# one writer: its own chain, and every fourth command on the shared one; all in one process
WRITER = """
import sys
from nfqfw.applet_client import main
w, commands = int(sys.argv[1]), int(sys.argv[2])
codes = [main("iptables", ["-N", f"w{w}"])]
for n in range(1, commands):
    chain = "shared" if n % 4 == 0 else f"w{w}"
    codes.append(main("iptables", ["-A", chain, "-s", f"10.{w}.0.{n}", "-j", "ACCEPT"]))
sys.exit(any(codes))
"""


def expected_rules(writer, commands):
    own = [f"-A w{writer} -s 10.{writer}.0.{n}/32 -j ACCEPT" for n in range(1, commands) if n % 4]
    shared = [f"-A shared -s 10.{writer}.0.{n}/32 -j ACCEPT" for n in range(1, commands) if n % 4 == 0]
    return own, shared


def check_writers(text, commands):
    """Every rule of every writer is there once, in the writer's order."""
    lines = text.splitlines()
    for writer in range(1, WRITERS + 1):
        own, shared = expected_rules(writer, commands)
        assert [line for line in lines if line.startswith(f"-A w{writer} ")] == own
        assert [line for line in lines if line.startswith(f"-A shared -s 10.{writer}.")] == shared
    assert sum(line.startswith("-A ") for line in lines) == WRITERS * (commands - 1) + 1


def run_writers(namespace, commands):
    children = [namespace.python(WRITER, str(writer), str(commands)) for writer in range(1, WRITERS + 1)]
    assert [(child.wait(240), child.stdout.read()) for child in children] == [(0, "")] * WRITERS


def test_eight_writers_of_a_live_daemon_while_traffic_passes(namespace):
    namespace.nfqfw("iptables", "-N", "shared")
    namespace.nfqfw("iptables", "-A", "INPUT", "-j", "shared")
    ping = namespace.python("import subprocess, sys; sys.exit(subprocess.call(['ping', '-q', '-i', '0.01', '-W', '1', '-c', '500', '127.0.0.1']))")
    run_writers(namespace, LIVE_COMMANDS)
    check_writers(namespace.nfqfw("iptables-save"), LIVE_COMMANDS)
    assert "500 received" in ping.communicate(timeout=60)[0]


def test_eight_writers_of_a_state_file(namespace, tmp_path):
    state = str(tmp_path / "state")
    namespace.environment["NFQFW_STATE"] = state
    namespace.nfqfw("iptables", "-N", "shared")
    namespace.nfqfw("iptables", "-A", "INPUT", "-j", "shared")
    run_writers(namespace, STATE_COMMANDS)
    check_writers(namespace.nfqfw("iptables-save"), STATE_COMMANDS)
    store = FileStore(state)
    with store.transaction(False):
        assert len(store.ruleset(2).tables["filter"].chains) == 3 + 1 + WRITERS


COUPLED = """*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A INPUT -p icmp -j MARK --set-xmark 0x{mark}/0xffffffff
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p icmp -m mark ! --mark 0x{mark} -j DROP
COMMIT
"""
SWAPPER = """
import sys
from nfqfw.applet_client import main
files = sys.argv[1:]
sys.exit(any(main("iptables-restore", ["-c", files[n % 2]]) for n in range(150)))
"""


def test_no_packet_is_judged_by_half_a_ruleset(namespace, tmp_path):
    """Two rulesets, each of which sets a mark in one table and drops what has not that mark in another.

    A packet that met the first table of one and the second of the other would be dropped, and its reply not come.
    """
    files = []
    for mark in (1, 2):
        files.append(str(tmp_path / f"rules{mark}"))
        (tmp_path / f"rules{mark}").write_text(COUPLED.format(mark=mark))
    namespace.nfqfw("iptables-restore", files[0])
    ping = namespace.python("import subprocess, sys; sys.exit(subprocess.call(['ping', '-q', '-f', '-W', '1', '-c', '20000', '127.0.0.1']))")
    swapper = namespace.python(SWAPPER, *files)
    assert (swapper.wait(120), swapper.stdout.read()) == (0, "")
    assert "20000 received" in ping.communicate(timeout=120)[0]


def test_client_killed_in_the_middle_leaves_all_or_nothing(namespace):
    """A restore whose client is killed while the daemon reads, waits or commits: both rules or none, and the daemon serves on."""
    namespace.nfqfw("iptables", "-N", "before")
    text = "*filter\\n" + "".join(f":c{n} - [0:0]\\n" for n in range(3000)) + "COMMIT\\n"
    program = f"import sys, threading, os, time\nfrom nfqfw.applet_client import main\n" \
              f"threading.Timer(float(sys.argv[1]), os._exit, (0,)).start()\n" \
              f"from nfqfw.daemon import terminal\nterminal.read_all = lambda fd: b'{text}'\nmain('iptables-restore', ['-n'])\nos._exit(0)"
    for delay in (0.001, 0.005, 0.01, 0.02, 0.04, 0.08):
        namespace.python(program, str(delay)).communicate(timeout=60)
        chains = namespace.nfqfw("iptables", "-S").count("-N c")
        assert chains in (0, 3000)
        namespace.nfqfw("iptables", "-X")
        namespace.nfqfw("iptables", "-N", "before")
