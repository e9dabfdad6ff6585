"""Helpers by name: those that -j CT --helper takes are the kernel's, for each protocol and family."""

import os
import subprocess

import pytest

from nfqfw.ext import helpers
from nfqfw.rules import lint, load
from nfqfw.selftest import kernel as twin

NAMES = (*(helper.name for helper in helpers.HELPERS), "h323", "ftp2", "nosuch")
TOOLS = {2: "iptables-legacy", 10: "ip6tables-legacy"}


@pytest.mark.netns
@pytest.mark.skipif(bool(twin.missing()), reason=f"kernel twin: {twin.missing()}")
def test_the_names_are_the_kernels():
    asked = [(name, proto, family) for name in NAMES for proto in (6, 17, 132) for family in TOOLS]
    script = "\n".join(f"{TOOLS[family]} -t raw -A PREROUTING -p {proto} -j CT --helper {name} 2>/dev/null; echo $?" for name, proto, family in asked)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XTABLES_LOCKFILE": f"/run/nfqfw-test-{os.getpid()}.lock"}
    done = subprocess.run(["unshare", "-n", "sh", "-c", script], capture_output=True, text=True, timeout=60, env=environment, check=True)
    theirs = {question for question, code in zip(asked, done.stdout.split(), strict=True) if code == "0"}
    assert {question for question in asked if helpers.number_of(*question)} == theirs


def test_every_policy_fits_the_table():
    assert all(len(helper.policies) <= helpers.POLICIES_MOST for helper in helpers.HELPERS) and len(helpers.HELPERS) < 32


def test_check_says_that_a_name_is_not_a_helper():
    text = "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A PREROUTING -p tcp -j CT --helper ftp\nCOMMIT\n"
    remark, = lint.warnings(load(text, "rules.v4", 2))
    assert str(remark).startswith("rules.v4:4: warning: CT --helper ftp: connections carry the name")
