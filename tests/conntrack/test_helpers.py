"""Helpers by name: those that -j CT --helper takes are the kernel's, for each protocol and family."""

import os
import subprocess

import pytest

from nfqfw.ext import helpers
from nfqfw.rules import lint, load
from nfqfw.selftest import kernel as twin
from nfqfw.selftest.flow import parse_flow

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


UNBOUNDED = 5           # expectations tried of a helper without a bound
UDP_HELPERS = [helper for helper in helpers.HELPERS if 17 in helper.protocols]


@pytest.mark.netns
@pytest.mark.skipif(bool(twin.missing("conntrack")), reason=f"kernel twin: {twin.missing('conntrack')}")
def test_policies_of_first_classes_are_the_kernels():
    """One more expectation than a helper may have: so many stay, for so long.  UDP alone: the tool cannot make others."""
    rules = "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n" + "".join(
        f"-A PREROUTING -p udp --dport {1000 + i} -j CT --helper {helper.name}\n" for i, helper in enumerate(UDP_HELPERS)) + "COMMIT\n"
    steps = [f"+0 client C0:5000>S0:{1000 + i} udp 1" for i in range(len(UDP_HELPERS))]
    masks = "--mask-src 255.255.255.255 --mask-dst 255.255.255.255 --mask-port-src 0 --mask-port-dst 65535"
    steps += [f"+0 run conntrack -I expect -p udp -s $C0 -d $S0 --sport 5000 --dport {1000 + i} -t 9 --tuple-src $S0 --tuple-dst $C0 {masks} "
              f"--tuple-port-src 0 --tuple-port-dst {2000 + 100 * i + n}"
              for i, helper in enumerate(UDP_HELPERS) for n in range((helper.policies[0].most or UNBOUNDED) + 1)]
    case, = parse_flow("\n".join(["family 4", "rules", rules + "end", *steps, "+0 run conntrack -L expect"]))
    with twin.KernelTwin() as kernel:
        kernel._command, said = lambda text, tool: said.append(twin.KernelTwin._command(kernel, text, tool)) or said[-1], []
        kernel.run(case)
    lines = said[-1].splitlines()
    for helper in UDP_HELPERS:
        mine = [line for line in lines if line.endswith(f"helper={helper.name}")]
        seconds = {-(-int(line.split()[0]) // 10) * 10 for line in mine}
        if helper.policies[0].seconds < 10:             # over before it was listed, on a slow machine
            continue
        assert (len(mine), seconds) == (helper.policies[0].most or UNBOUNDED + 1, {helper.policies[0].seconds}), helper.name
