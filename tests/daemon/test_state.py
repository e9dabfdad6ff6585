"""State of rules (limit, the mark of a CT rule's template) across commits, seen on real packets: kept by a commit of another
table, new by one of its own (spec/iptables.md 4.5).
"""

import os

import pytest

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces")]

PING = ("ping", "-c", "5", "-i", "0.01", "-W", "0.5", "127.0.0.1")


def matched(program, namespace, words="limit"):
    """Packets that the rule with these words let through so far."""
    return int(next(line for line in program("-c").splitlines() if words in line)[1:].partition(":")[0])


@pytest.fixture(params=[True, False], ids=["kernel", "nfqfw"])
def tools(namespace, request):
    """iptables(*argv) and iptables-save(*argv) of the kernel, or ours."""
    if request.param:
        return (lambda *argv: namespace.run("iptables-legacy", *argv)), (lambda *argv: namespace.run("iptables-legacy-save", *argv))
    return (lambda *argv: namespace.nfqfw("iptables", *argv)), (lambda *argv: namespace.nfqfw("iptables-save", *argv))


def test_limit_across_commits(namespace, tools):
    """limit 1/hour with burst 3: three of the packets match and no more, until the state starts afresh."""
    iptables, save = tools
    iptables("-t", "mangle", "-A", "INPUT", "-p", "icmp", "--icmp-type", "8", "-m", "limit", "--limit", "1/hour", "--limit-burst", "3", "-j", "ACCEPT")
    namespace.run(*PING)
    assert matched(save, namespace) == 3
    iptables("-A", "INPUT", "-s", "10.9.9.9", "-j", "DROP")             # another table
    namespace.run(*PING)
    assert matched(save, namespace) == 3
    iptables("-t", "mangle", "-A", "INPUT", "-s", "10.9.9.9", "-j", "DROP")
    namespace.run(*PING)
    assert matched(save, namespace) == 6


def test_template_mark_across_commits(namespace, tools):
    """The first of five packets finds a template without its mark, and leaves it marked."""
    iptables, save = tools
    for rule in ("-j CT --ctevents new", "-m connmark --mark 0x7", "-j CONNMARK --set-xmark 0x7/0xffffffff"):
        iptables("-t", "raw", "-A", "OUTPUT", "-p", "icmp", "--icmp-type", "8", *rule.split())
    namespace.run(*PING)
    assert matched(save, namespace, "connmark") == 4
    iptables("-A", "INPUT", "-s", "10.9.9.9", "-j", "DROP")             # another table
    namespace.run(*PING)
    assert matched(save, namespace, "connmark") == 9
    iptables("-t", "raw", "-A", "OUTPUT", "-s", "10.9.9.9", "-j", "DROP")
    namespace.run(*PING)
    assert matched(save, namespace, "connmark") == 13
