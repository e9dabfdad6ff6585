"""When a network namespace is in use: by another process, or by a bind mount; told from the kernel's own facts."""

import os
import subprocess
import sys

import pytest

from nfqfw.daemon.idle import netns_in_use

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces")]

PROGRAM = """
import os, sys
sys.path.insert(0, {path!r})
from nfqfw.daemon.idle import netns_in_use
{setup}
print("there", flush=True)
input()
print(netns_in_use(frozenset((os.getpid(),))))
"""


def in_new_netns(setup="", prefix=("unshare", "-n"), before_answer=lambda: None):
    """What netns_in_use says in a process that is alone in a new namespace, after `setup` there and `before_answer` here."""
    program = PROGRAM.format(path=os.getcwd(), setup=setup)
    with subprocess.Popen([*prefix, sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        child.stdout.readline()
        before_answer()
        return child.communicate("\n", timeout=30)[0].strip()


def test_alone_it_is_not_in_use():
    assert in_new_netns() == "False"


def test_another_process_uses_it():
    assert in_new_netns("import subprocess; child = subprocess.Popen(['sleep', '5']); import atexit; atexit.register(child.kill)") == "True"


def test_process_in_another_namespace_does_not():
    setup = "import subprocess; child = subprocess.Popen(['unshare', '-n', 'sleep', '5'], stdout=-3); import time; time.sleep(.3); " \
            "import atexit; atexit.register(child.kill)"
    assert in_new_netns(setup) == "False"


def test_named_namespace_is_in_use_until_it_is_deleted():
    name = f"nfqfw-idle-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=10)
    try:
        assert in_new_netns(prefix=("ip", "netns", "exec", name)) == "True"
        delete = ["ip", "netns", "del", name]
        assert in_new_netns(prefix=("ip", "netns", "exec", name),
                            before_answer=lambda: subprocess.run(delete, check=True, timeout=10)) == "False"
    finally:
        subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, timeout=10, check=False)


def test_namespace_of_the_tests_is_in_use():
    assert netns_in_use(frozenset((os.getpid(),)))
