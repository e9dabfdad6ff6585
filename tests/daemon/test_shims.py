"""The folder of program names: complete, replaceable, and never over somebody else's programs."""

import os
import subprocess

import pytest

from nfqfw.daemon.shims import LAUNCHER, LINKS, write_shims
from nfqfw.errors import NfqfwError

# what Debian's package iptables installs, legacy set (dpkg -L iptables), without iptables-xml, iptables-apply and nft's names
PACKAGE = {f"{family}{form}{part}" for family in ("iptables", "ip6tables") for form in ("", "-legacy")
           for part in ("", "-save", "-restore")} | {"xtables-legacy-multi"}


def test_every_name_of_the_package_conntrack_and_nfct(tmp_path):
    write_shims(str(tmp_path / "shims"))
    assert set(os.listdir(tmp_path / "shims")) == PACKAGE | {"conntrack", "nfct"}


def test_writing_again_replaces(tmp_path):
    write_shims(str(tmp_path))
    (tmp_path / LAUNCHER).write_text("# nfqfw shim of an older version")
    write_shims(str(tmp_path))
    assert (tmp_path / LAUNCHER).read_text().startswith("#!")
    assert len(os.listdir(tmp_path)) == len(LINKS) + 1


@pytest.mark.parametrize("make", [
    lambda path: path.write_text("#!/bin/sh\n"),
    lambda path: path.symlink_to("/usr/sbin/xtables-nft-multi"),
    lambda path: path.mkdir(),
])
def test_programs_of_others_stay(tmp_path, make):
    make(tmp_path / "iptables")
    with pytest.raises(NfqfwError, match="already has iptables"):
        write_shims(str(tmp_path))
    assert os.listdir(tmp_path) == ["iptables"]


def test_multi_without_a_name_lists_them(tmp_path):
    write_shims(str(tmp_path))
    done = subprocess.run([tmp_path / LAUNCHER], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert " * ip6tables-restore" in done.stderr


def test_nothing_beside_a_script_is_imported(tmp_path):
    """A json.py in the working directory, or named by PYTHONPATH, must not run with the firewall's rights."""
    write_shims(str(tmp_path / "shims"))
    (tmp_path / "json.py").write_text("raise SystemExit(99)")
    done = subprocess.run([tmp_path / "shims" / LAUNCHER, "nosuch"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
                          capture_output=True, timeout=20, check=False)
    assert done.returncode == 1
