"""The installed iptables-legacy in a namespace of its own, and the differences of 1.8.9 to the 1.8.13 that we follow."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

TOOL = shutil.which("iptables-legacy")
needs_tool = pytest.mark.skipif(os.geteuid() != 0 or not TOOL, reason="needs root and iptables-legacy")
# `-L -n` of 1.8.9 prints numbers of protocols
NUMBERS = {"0": "all", "1": "icmp", "6": "tcp", "17": "udp", "50": "esp", "51": "ah", "58": "ipv6-icmp", "132": "sctp", "136": "udplite",
           "33": "dccp", "108": "ipcomp", "135": "mobility-header"}


def shell(script: str, lock, stdin: str = "") -> subprocess.CompletedProcess:
    """Run a script in a new network namespace."""
    return subprocess.run(["unshare", "-n", "bash", "-c", f"export XTABLES_LOCKFILE={lock}\n{script}"], input=stdin,
                          capture_output=True, text=True, errors="surrogateescape", timeout=120)


def name_protocols(listing: str) -> str:
    """A numeric listing of 1.8.9 as 1.8.13 prints it."""
    def named(found):
        return f"{found[1]}{NUMBERS.get(found[2], found[2]):<4} {found[4]}"
    return re.sub(r"(?m)^(.*?[ !])(\d+)( +)(--|-f|!f)(?= )", named, listing)


def without_stamps(text: str) -> str:
    return re.sub(r"(?m)^#.*\n", "", text)
