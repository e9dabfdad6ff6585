"""State of rules (limit) across commits, seen on real packets: kept by a commit of another table, new by one of its own.

limit 1/hour with burst 3: three of the packets match and no more, until the state starts afresh (spec/iptables.md 4.5).
"""

import os

import pytest

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces")]

PING = ("ping", "-c", "5", "-i", "0.01", "-W", "0.5", "127.0.0.1")


def matched(program, namespace):
    """Packets that the limit rule let through so far."""
    return int(next(line for line in program("-c").splitlines() if "limit" in line)[1:].partition(":")[0])


@pytest.mark.parametrize("real", [True, False], ids=["kernel", "nfqfw"])
def test_limit_across_commits(namespace, real):
    def iptables(*argv):
        return namespace.run("iptables-legacy", *argv) if real else namespace.nfqfw("iptables", *argv)

    def save(*argv):
        return namespace.run("iptables-legacy-save", *argv) if real else namespace.nfqfw("iptables-save", *argv)

    iptables("-t", "mangle", "-A", "INPUT", "-p", "icmp", "--icmp-type", "8", "-m", "limit", "--limit", "1/hour", "--limit-burst", "3", "-j", "ACCEPT")
    namespace.run(*PING)
    assert matched(save, namespace) == 3
    iptables("-A", "INPUT", "-s", "10.9.9.9", "-j", "DROP")             # another table
    namespace.run(*PING)
    assert matched(save, namespace) == 3
    iptables("-t", "mangle", "-A", "INPUT", "-s", "10.9.9.9", "-j", "DROP")
    namespace.run(*PING)
    assert matched(save, namespace) == 6
