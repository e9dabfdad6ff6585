"""The daemon in a namespace: started by a command, by `up`, ended by `down`, by being left, by a kill."""

import json
import os
import signal
import time

import pytest

from tests.daemon.namespace import is_alive, wait_until

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces")]

RULES = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p icmp -j DROP
COMMIT
"""
PING = ("ping", "-c", "3", "-i", "0.01", "-W", "0.3", "127.0.0.1")


def test_reading_without_a_daemon_prints_what_the_real_tool_prints(namespace):
    for argv in (["-L", "-n"], ["-L", "-n", "-v", "-x", "--line-numbers"], ["-S"], ["-t", "raw", "-S"], ["-L", "nosuch"]):
        ours = namespace.nfqfw("iptables", *argv, code=None)
        assert ours == namespace.run("iptables-legacy", *argv, code=None).replace("iptables-legacy", "iptables").replace("v1.8.9", "v1.8.13")
    assert namespace.daemon_pid() is None


def test_changes_that_leave_everything_empty_start_no_daemon(namespace):
    for argv in (["-F"], ["-X"], ["-Z"], ["-P", "INPUT", "ACCEPT"], ["-t", "nat", "-F"]):
        namespace.nfqfw("iptables", *argv)
    assert namespace.daemon_pid() is None


def test_changing_command_starts_a_daemon_and_each_is_seen_by_the_next(namespace):
    namespace.nfqfw("iptables", "-N", "web")
    namespace.nfqfw("iptables", "-A", "INPUT", "-p", "icmp", "-j", "DROP")
    namespace.nfqfw("ip6tables", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP")
    assert "-N web\n-A INPUT -p icmp -j DROP\n" in namespace.nfqfw("iptables", "-S")
    assert "--dport 22" in namespace.nfqfw("ip6tables-save")
    assert namespace.daemon_pid() is not None


def test_autostart_can_be_forbidden(namespace):
    said = namespace.nfqfw("iptables", "-A", "INPUT", "-j", "DROP", code=4, NFQFW_AUTOSTART="0")
    assert "NFQFW_AUTOSTART=0" in said
    assert namespace.daemon_pid() is None
    namespace.nfqfw("iptables", "-L", "-n", NFQFW_AUTOSTART="0")


def test_counts_are_those_of_the_packets_sent(namespace):
    """Three echo requests of 84 bytes (20 + 8 + 56), each counted once, kept through another change of the table."""
    namespace.nfqfw("iptables", "-A", "INPUT", "-p", "icmp", "-j", "DROP")
    namespace.run(*PING, code=1)
    namespace.nfqfw("iptables", "-I", "INPUT", "-s", "10.0.0.1", "-j", "ACCEPT")
    assert "[3:252] -A INPUT -p icmp -j DROP" in namespace.nfqfw("iptables-save", "-c")
    assert "[3:252] -A INPUT -p icmp" in namespace.nfqfw("iptables-save", "-c")
    assert "    3   252 DROP" in namespace.nfqfw("iptables", "-nvL", "-Z")
    assert "[0:0] -A INPUT -p icmp" in namespace.nfqfw("iptables-save", "-c")


def test_two_commands_that_start_a_daemon_at_once_share_it(namespace):
    program = "import sys; from nfqfw.applet_client import main; sys.exit(main('iptables', ['-A', 'INPUT', '-s', sys.argv[1], '-j', 'DROP']))"
    children = [namespace.python(program, f"10.0.0.{n}") for n in range(1, 7)]
    assert [(child.wait(60), child.stdout.read()) for child in children] == [(0, "")] * 6
    assert namespace.nfqfw("iptables", "-S", "INPUT").count("-j DROP") == 6


def test_daemon_that_a_command_started_ends_when_the_namespace_is_left(namespace):
    namespace.nfqfw("iptables", "-A", "INPUT", "-j", "DROP")
    pid = namespace.daemon_pid()
    time.sleep(5)                                       # two checks: it stays while the namespace is in use
    assert is_alive(pid)
    namespace.leave()
    assert wait_until(lambda: not is_alive(pid), 15)
    assert not [
        name for name in os.listdir(os.environ["NFQFW_RUN_DIR"]) if name.isdigit()]


def test_up_status_down(namespace, tmp_path):
    rules = tmp_path / "rules.v4"
    rules.write_text(RULES)
    namespace.nfqfw("up", "-b", str(rules))
    namespace.run(*PING, code=1)
    status = json.loads(namespace.nfqfw("status", "--json"))
    assert status["running"] and not status["daemon"]["autostarted"]
    assert "INPUT" in status["daemon"]["hooks"]
    assert [rule["packets"] for rule in status["rules"] if rule.get("rule") == "-p icmp -j DROP"] == [3]
    namespace.nfqfw("down")
    assert json.loads(namespace.nfqfw("status", "--json", code=1)) == {"running": False, "left_behind": False}
    namespace.run(*PING)
    assert "nfqfw" not in namespace.run("nft", "list", "ruleset")


def test_up_without_rules_attaches_nothing(namespace):
    namespace.nfqfw("up", "-b")
    assert "nfqfw" not in namespace.run("nft", "list", "ruleset")
    assert namespace.daemon_pid() is not None


def test_second_up_says_who_is_there(namespace):
    namespace.nfqfw("up", "-b")
    assert f"process {namespace.daemon_pid()}" in namespace.nfqfw("up", "-b", code=4)


def test_up_with_a_broken_file_says_where_and_leaves_nothing(namespace, tmp_path):
    rules = tmp_path / "rules.v4"
    rules.write_text(RULES.replace("-p icmp", "-p tcp --dport 70000"))
    assert "rules.v4:5:" in namespace.nfqfw("up", "-b", str(rules), code=4)
    assert namespace.daemon_pid() is None


def test_kill_closes_and_down_opens(namespace):
    namespace.nfqfw("iptables", "-A", "INPUT", "-s", "10.9.9.9", "-j", "DROP")
    namespace.run(*PING)
    os.kill(namespace.daemon_pid(), signal.SIGKILL)
    namespace.run(*PING, code=1)                        # fail closed
    assert json.loads(namespace.nfqfw("status", "--json", code=1)) == {"running": False, "left_behind": True}
    assert "removed" in namespace.nfqfw("down")
    namespace.run(*PING)


def test_command_after_a_kill_takes_over(namespace):
    namespace.nfqfw("iptables", "-A", "INPUT", "-s", "10.9.9.9", "-j", "DROP")
    os.kill(namespace.daemon_pid(), signal.SIGKILL)
    namespace.nfqfw("iptables", "-A", "INPUT", "-s", "10.9.9.8", "-j", "DROP")
    assert namespace.nfqfw("iptables", "-S", "INPUT") == "-P INPUT ACCEPT\n-A INPUT -s 10.9.9.8/32 -j DROP\n"
    namespace.run(*PING)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_in_order(namespace, number):
    namespace.nfqfw("iptables", "-A", "INPUT", "-p", "icmp", "-j", "DROP")
    pid = namespace.daemon_pid()
    os.kill(pid, number)
    assert wait_until(lambda: not is_alive(pid), 10)
    namespace.run(*PING)
    assert namespace.daemon_pid() is None


def test_rule_that_this_build_cannot_evaluate_is_refused_live(namespace, tmp_path):
    """NFQUEUE's kernel-only neighbours, TPROXY and policy, can never be evaluated here: named with file and line, old rules stay."""
    namespace.nfqfw("iptables", "-A", "INPUT", "-s", "10.9.9.9", "-j", "DROP")
    said = namespace.nfqfw("iptables", "-A", "INPUT", "-m", "policy", "--dir", "in", "--pol", "ipsec", "-j", "ACCEPT", code=1)
    assert said.startswith("iptables: not possible") and "Try" not in said
    rules = tmp_path / "rules.v4"
    rules.write_text(RULES.replace("-p icmp -j DROP", "-m policy --dir in --pol ipsec -j DROP"))
    assert f"{rules}:5: not possible" in namespace.nfqfw("iptables-restore", str(rules), code=1)
    assert namespace.nfqfw("iptables", "-S", "INPUT") == "-P INPUT ACCEPT\n-A INPUT -s 10.9.9.9/32 -j DROP\n"
    namespace.nfqfw("iptables-restore", str(rules), NFQFW_STATE=str(tmp_path / "state"))
