"""`-m NAME -h` and `-j NAME -h`: exit code 0, and every option that the installed tool's help speaks of."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from nfqfw.ext import registry
from nfqfw.rules.applet import run
from nfqfw.rules.store import MemoryStore

TOOLS = {2: "iptables", 10: "ip6tables"}
REAL = "/usr/sbin/iptables-legacy"
EXTENSIONS = [(flag, name, family) for flag, modules, find in (("-m", registry.MATCH_MODULES, registry.find_match), ("-j", registry.TARGET_MODULES, registry.find_target))
              for name in sorted(modules) for family in TOOLS if find(name, family) is not None]


def options(text: str) -> set[str]:
    """Words of the help that are long options, without the final dot or star."""
    return set(re.findall(r"--[a-z][a-z0-9-]*[a-z0-9]", text))


def ours(flag: str, name: str, family: int) -> str:
    result = run([TOOLS[family], flag, name, "-h"], MemoryStore())
    assert (result.code, result.stderr) == (0, "")
    return result.stdout


@pytest.mark.parametrize("flag, name, family", EXTENSIONS)
def test_help_names_every_option(flag, name, family):
    found = (registry.find_match if flag == "-m" else registry.find_target)(name, family)
    assert {f"--{spelling}" for opt in found.opts for spelling in (opt.name, *opt.aliases)} <= options(ours(flag, name, family))


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists(REAL), reason="needs root and iptables-legacy")
@pytest.mark.parametrize("family", list(TOOLS))
def test_help_speaks_of_what_the_real_tool_does(family, tmp_path):
    mine = [(flag, name) for flag, name, f in EXTENSIONS if f == family]
    script = f"export XTABLES_LOCKFILE={tmp_path}/lock\n" + "".join(f"{TOOLS[family]}-legacy {flag} {name} -h 2>&1; echo ==$?\n" for flag, name in mine)
    out = subprocess.run(["unshare", "-n", "bash", "-c", script], capture_output=True, text=True, timeout=120).stdout
    parts = re.split(r"^==(\d+)\n", out, flags=re.M)
    missing = {}
    for (flag, name), text, code in zip(mine, parts[::2], parts[1::2]):
        assert code == "0", (name, text)
        lost = options(text) - options(ours(flag, name, family)) - TYPING_ERRORS.get(name, set())
        if lost:
            missing[name] = lost
    assert missing == {}


# what the tool's help says but the tool does not take
TYPING_ERRORS: dict[str, set[str]] = {}
