"""The conntrack applet and the settings, through the socket, on flows that real packets made."""

import os
import signal
import sys
import time

import pytest

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces")]

TRACK = ("iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW", "-j", "ACCEPT")
PING = ("ping", "-c", "1", "-W", "1", "127.0.0.1")
FLOW = "icmp     1 29 src=127.0.0.1 dst=127.0.0.1 type=8 code=0 id="
TOOL = "conntrack v1.4.7 (conntrack-tools): "


def test_without_a_daemon_there_are_no_flows(namespace):
    """As the real tool says it in a namespace without connections."""
    for argv in (["-L"], ["-C"], ["-F"], ["-D", "-p", "udp"]):
        assert namespace.nfqfw("conntrack", *argv, code=None) == namespace.run("conntrack", *argv, code=None)
    assert namespace.daemon_pid() is None


def test_list_count_delete_flush(namespace):
    namespace.nfqfw(*TRACK)
    namespace.run(*PING)
    assert FLOW in namespace.nfqfw("conntrack", "-L")
    assert namespace.nfqfw("conntrack", "-C") == "1\n"
    assert f"{TOOL}1 flow entries have been deleted." in namespace.nfqfw("conntrack", "-D", "-p", "icmp")
    namespace.run(*PING)
    namespace.nfqfw("conntrack", "-F")
    assert namespace.nfqfw("conntrack", "-C") == "0\n"


def test_flows_survive_a_change_of_rules(namespace):
    namespace.nfqfw(*TRACK)
    namespace.run(*PING)
    namespace.nfqfw("iptables", "-I", "INPUT", "-s", "10.9.9.9", "-j", "DROP")
    assert FLOW in namespace.nfqfw("conntrack", "-L")


def test_file_of_entries_is_read_by_the_client(namespace, tmp_path):
    namespace.nfqfw("up", "-b")
    (tmp_path / "flows").write_text("-I -p udp -s 192.0.2.1 -d 192.0.2.2 --sport 1 --dport 2 -t 100 -u SEEN_REPLY,ASSURED\n")
    namespace.nfqfw("conntrack", "-R", str(tmp_path / "flows"))
    assert "src=192.0.2.1 dst=192.0.2.2 sport=1 dport=2" in namespace.nfqfw("conntrack", "-L")


def test_creating_an_entry_starts_a_daemon(namespace):
    namespace.nfqfw("conntrack", "-I", "-p", "udp", "-s", "192.0.2.1", "-d", "192.0.2.2", "--sport", "1", "--dport", "2", "-t", "100")
    assert namespace.nfqfw("conntrack", "-C") == "1\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_events_are_followed_until_a_signal(namespace, number):
    namespace.nfqfw(*TRACK)
    program = "import sys; from nfqfw.applet_client import main; sys.exit(main('conntrack', ['-E', '-e', 'NEW']))"
    followers = [namespace.python(program) for _ in range(2)]
    time.sleep(1)
    namespace.run(*PING)
    time.sleep(0.5)
    for follower in followers:
        follower.send_signal(number)
        said = follower.communicate(timeout=20)[0]
        assert said.startswith("    [NEW] icmp     1 30 src=127.0.0.1"), said
        assert said.endswith(f"{TOOL}1 flow events have been shown.\n")
        assert follower.returncode == 0


def test_expectations_of_a_live_master(namespace):
    """A rule names the helper, a packet makes the master, a command announces: what comes is RELATED and told."""
    namespace.nfqfw("iptables", "-t", "raw", "-A", "OUTPUT", "-p", "udp", "--dport", "69", "-j", "CT", "--helper", "tftp")
    namespace.nfqfw("iptables", "-A", "INPUT", "-m", "helper", "--helper", "tftp")
    follower = namespace.python("import sys; from nfqfw.applet_client import main; sys.exit(main('conntrack', ['-E', 'expect']))")
    time.sleep(1)
    send = ("import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', int(sys.argv[1]))); "
            "s.sendto(b'x', ('127.0.0.1', int(sys.argv[2])))")
    namespace.run(sys.executable, "-c", send, "5000", "69")
    master = namespace.nfqfw("conntrack", "-L", "-p", "udp", "--dport", "69")
    assert "sport=5000 dport=69" in master and "helper=tftp use=1" in master
    ends = ("-s", "127.0.0.1", "-d", "127.0.0.1")
    namespace.nfqfw("conntrack", "-I", "expect", "-p", "udp", *ends, "--sport", "5000", "--dport", "69", "-t", "9", "--tuple-src", "127.0.0.1",
                    "--tuple-dst", "127.0.0.1", "--mask-src", "255.255.255.255", "--mask-dst", "255.255.255.255", "--tuple-port-src", "0",
                    "--tuple-port-dst", "7000", "--mask-port-src", "0", "--mask-port-dst", "65535")
    assert "dport=7000 mask-src=255.255.255.255" in namespace.nfqfw("conntrack", "-L", "expect")
    namespace.run(sys.executable, "-c", send, "6000", "7000")
    assert "dport=7000" in namespace.nfqfw("conntrack", "-L", "-u", "EXPECTED")
    assert "0 expectations have been shown" in namespace.nfqfw("conntrack", "-L", "expect")
    counted = namespace.nfqfw("iptables", "-nvxL", "INPUT").splitlines()[2].split()
    assert int(counted[0]) >= 1                             # the port unreachable of the closed port is RELATED to it too
    time.sleep(0.3)
    follower.send_signal(signal.SIGINT)
    said = follower.communicate(timeout=20)[0]
    assert [line[:9].strip() for line in said.splitlines()[:2]] == ["[NEW]", "[DESTROY]"]
    assert said.endswith(f"{TOOL}2 expectation events have been shown.\n")


def test_daemon_ends_while_events_are_followed(namespace):
    namespace.nfqfw(*TRACK)
    follower = namespace.python("import sys; from nfqfw.applet_client import main; sys.exit(main('conntrack', ['-E']))")
    time.sleep(0.7)
    namespace.nfqfw("down")
    assert "0 flow events" in follower.communicate(timeout=20)[0]


def test_settings_at_the_start(namespace, tmp_path):
    """--config and --sysctl of `up`; the command line comes last, and a mistake starts nothing."""
    file = tmp_path / "nfqfw.conf"
    file.write_text("# site\nnet.netfilter.nf_conntrack_udp_timeout = 11\nnf_conntrack_icmp_timeout = 12\n")
    assert "nf_conntrack_tcp_loose: 2 is not in 0..1" in namespace.nfqfw("up", "-b", "--sysctl", "nf_conntrack_tcp_loose=2", code=2)
    assert "more than this table has room for" in namespace.nfqfw("up", "-b", "--sysctl", "nf_conntrack_max=2000000000", code=None)
    assert "fix: start it" in namespace.nfqfw("sysctl", "nf_conntrack_max", code=4)
    namespace.nfqfw("up", "-b", "--config", str(file), "--sysctl", "nf_conntrack_icmp_timeout=13")
    values = namespace.nfqfw("sysctl", "nf_conntrack_udp_timeout", "nf_conntrack_icmp_timeout")
    assert values == "net.netfilter.nf_conntrack_udp_timeout = 11\nnet.netfilter.nf_conntrack_icmp_timeout = 13\n"
    assert namespace.nfqfw("sysctl", "-p", str(file)).endswith("nf_conntrack_icmp_timeout = 12\n")


def test_settings(namespace):
    assert "fix: start it" in namespace.nfqfw("sysctl", "nf_conntrack_max", code=4)
    namespace.nfqfw("up", "-b")
    name = "net.netfilter.nf_conntrack_icmp_timeout"
    assert namespace.nfqfw("sysctl", "nf_conntrack_icmp_timeout") == f"{name} = 30\n"      # the kernel's default
    assert namespace.nfqfw("sysctl", "-w", f"{name}=7") == f"{name} = 7\n"
    refused = namespace.nfqfw("sysctl", "nf_conntrack_udp_timeout=99", "nf_conntrack_icmp_timeout=-1", code=None)
    assert "nf_conntrack_icmp_timeout: -1 is not in" in refused
    assert " = 30\n" in namespace.nfqfw("sysctl", "nf_conntrack_udp_timeout")              # none of the two was set


# ---- time-out policies -----------------------------------------------------------------------------------------------

ADD = ("nfct", "add", "timeout", "brief", "inet", "udp", "unreplied", "500", "replied", "600")
RULE = ("iptables", "-t", "raw", "-A", "OUTPUT", "-p", "udp", "-j", "CT", "--timeout", "brief")
BUSY = "nfct v1.4.7: netlink error: Device or resource busy\n"
SEND = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 77))"


def test_a_policy_makes_a_daemon_and_a_rule_needs_it(namespace):
    assert namespace.nfqfw("nfct", "list", "timeout") == namespace.nfqfw("nfct", "flush", "timeout") == ""
    assert "No chain/target/match by that name" in namespace.nfqfw(*RULE, code=1)
    assert namespace.daemon_pid() is None
    namespace.nfqfw(*ADD)
    namespace.nfqfw(*RULE)
    assert namespace.nfqfw("nfct", "delete", "timeout", "brief", code=1) == BUSY
    namespace.nfqfw("iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")
    namespace.run(sys.executable, "-c", SEND)
    assert "udp      17 499 src=127.0.0.1" in namespace.nfqfw("conntrack", "-L", "-p", "udp")
    namespace.nfqfw("iptables", "-t", "raw", "-F")
    assert namespace.nfqfw("nfct", "delete", "timeout", "brief") == ""
    assert "udp      17 49" in namespace.nfqfw("conntrack", "-L", "-p", "udp")
    namespace.run(sys.executable, "-c", SEND)
    assert "udp      17 29 src=127.0.0.1" in namespace.nfqfw("conntrack", "-L", "-p", "udp")
    assert "No chain/target/match by that name" in namespace.nfqfw(*RULE, code=1)


def test_policies_are_saved_and_given_at_the_start(namespace, tmp_path):
    """`up --nfct`: before the rules that name them; what is wrong starts nothing."""
    file, rules = tmp_path / "policies", tmp_path / "rules.v4"
    rules.write_text("*raw\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p udp -j CT --timeout brief\nCOMMIT\n")
    file.write_text("# site\nnfct add timeout brief inet udp replied 5 foo 6\n")
    refused = namespace.nfqfw("up", "-b", "--nfct", str(file), str(rules), code=2)
    assert f"{file}:2:1: nfct v1.4.7: Wrong state name: `foo' for protocol `udp'" in refused
    assert 'rules.v4:3:1: No such timeout policy "brief"' in namespace.nfqfw("up", "-b", str(rules), code=None)
    assert namespace.daemon_pid() is None
    file.write_text("nfct add timeout brief inet udp unreplied 5 replied 6\n")
    namespace.nfqfw("up", "-b", "--nfct", str(file), str(rules))
    assert namespace.nfqfw("nfct", "--save") == "add timeout brief inet udp unreplied 5 replied 6\n"
    assert namespace.nfqfw("nfct", "default-set", "timeout", "inet", "udp", "replied", "77") == ""
    assert namespace.nfqfw("sysctl", "nf_conntrack_udp_timeout_stream").endswith(" = 77\n")
