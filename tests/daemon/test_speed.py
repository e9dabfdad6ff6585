"""An applet starts fast: scripts call it hundreds of times.

Measured as processor time of the client, from exec to exit, so that a busy machine does not decide: 60 ms on a live daemon
(bare Python takes 15 of them), 150 ms on a state file.  Wall times are in the bench.
"""

import os
import resource
import statistics
import subprocess

import pytest

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces")]


def processor_ms(namespace, *argv, **environment):
    """Median of ten runs, user and system time of the program."""
    times = []
    for _ in range(10):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*namespace.prefix, *argv], env={**namespace.environment, **environment}, stdout=subprocess.DEVNULL, check=True, timeout=30)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return 1000 * statistics.median(times)


@pytest.mark.parametrize("argv", [("iptables", "-nL"), ("iptables", "-A", "INPUT", "-s", "10.0.0.1", "-j", "DROP"), ("ip6tables-save",)])
def test_live(namespace, argv):
    path = namespace.shims()
    namespace.nfqfw("iptables", "-A", "INPUT", "-s", "10.9.9.9", "-j", "DROP")
    assert processor_ms(namespace, "env", *argv, PATH=path) <= 60


@pytest.mark.parametrize("argv", [("iptables", "-nL"), ("iptables", "-A", "INPUT", "-s", "10.0.0.1", "-j", "DROP")])
def test_state_file(namespace, argv):
    state = {"NFQFW_STATE": f"{namespace.directory}/state", "PATH": namespace.shims()}
    assert processor_ms(namespace, "env", *argv, **state) <= 150
