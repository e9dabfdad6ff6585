"""The doctor, in namespaces where one thing each is wrong."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from netns import Lab
from nfqfw import _probe, attach, doctor
from tests.tinyqueue import TinyQueue

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def lab():
    with Lab() as lab:
        yield lab


@pytest.fixture
def firewall(lab):
    with lab.firewall.entered():
        yield lab.firewall
    lab.firewall.run(["nft", "flush", "ruleset"], check=True)


def found(name: str, **arguments) -> doctor.Check:
    [check] = [check for check in doctor.examine(**arguments) if check.name == name]
    return check


def test_a_clean_namespace_passes(firewall):
    """All but the build, which is not this test's, and lo, whose MTU is the kernel's usual one."""
    checks = [check for check in doctor.examine() if check.name not in ("build", "lo")]
    assert {check.status for check in checks} == {"ok"}, checks
    assert len(checks) >= 12
    assert all(not check.fix for check in checks)


def test_whatever_is_not_ok_has_a_fix_of_one_line(firewall):
    with TinyQueue():
        for check in doctor.examine():
            assert (check.status == "ok") or (check.fix and "\n" not in check.fix), check


def test_the_kernel_can_what_the_other_tests_use():
    assert _probe.try_kernel() == _probe.Kernel("", True, True, _probe.try_kernel().expression, True, True)


def test_a_queue_of_another_program(firewall):
    with TinyQueue(4):
        check = found("queues", queue=4)
        assert check.status == "fail" and "queue 4 by" in check.message
        assert found("queues", queue=5).status == "ok"
        assert found("queues", queue=3, queues=2).status == "fail"


def test_nfqfw_running(firewall):
    with TinyQueue(), attach.attach(["FORWARD"]):
        check = found("queues")
        assert check.status == "ok" and "runs here" in check.message


def test_a_killed_run(firewall):
    attach.attach(["FORWARD", "INPUT"]).close()
    check = found("queues")
    assert check.status == "fail" and "FORWARD, INPUT" in check.message and "nfqfw down" in check.fix


def test_other_nft_tables(firewall):
    firewall.run(["nft", "add table ip mine; add chain ip mine c { type filter hook input priority 0; }; add table ip no_hook"], check=True)
    check = found("other tables")
    assert check.status == "warn" and "ip mine" in check.message and "no_hook" not in check.message


def test_kernel_conntrack_switched_on_by_a_rule(lab, tmp_path):
    """In the server; nothing has been tracked before the doctor's own datagram."""
    environment = os.environ | {"XTABLES_LOCKFILE": str(tmp_path / "lock")}
    lab.server.run(["iptables-legacy", "-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW"], check=True, env=environment)
    with lab.server.entered():
        assert found("kernel conntrack").status == "warn"


def test_legacy_tables(lab, tmp_path):
    """In the client: a legacy table stays loaded for the life of its namespace."""
    environment = os.environ | {"XTABLES_LOCKFILE": str(tmp_path / "lock")}
    lab.client.run(["iptables-legacy", "-t", "mangle", "-L"], check=True, env=environment)
    with lab.client.entered():
        check = found("kernel tables")
    assert check.status == "warn" and "iptables mangle" in check.message


def test_lo_can_be_fixed_as_it_says(firewall):
    check = found("lo")
    assert check.status == "warn"
    firewall.run(check.fix.split(": ")[1].split(), check=True)
    assert found("lo").status == "ok"


def test_a_program_that_rebuilds_tables(firewall, tmp_path):
    program = tmp_path / "firewalld"
    program.symlink_to("/bin/sleep")
    process = firewall.popen([str(program), "20"])
    try:
        check = found("other firewalls")
        assert check.status == "warn" and "firewalld" in check.message
    finally:
        process.kill()
        process.wait()


def test_without_capabilities():
    code = "from nfqfw import doctor\nfor c in doctor.examine(): print(c.name, c.status, sep='=')"
    done = subprocess.run(["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", sys.executable, "-c", code], cwd=ROOT,
                          capture_output=True, text=True, timeout=30)
    said = dict(line.split("=") for line in done.stdout.splitlines())
    assert said["CAP_NET_ADMIN"] == "fail" and said["CAP_NET_RAW"] == "warn" and said["kernel"] == "warn", done


def test_worst():
    assert doctor.worst([doctor.Check("a", status, "") for status in ("ok", "warn", "fail")]) == "fail"
    assert doctor.worst([doctor.Check("a", "ok", "")]) == "ok"


def test_a_probe_that_hangs_is_killed(monkeypatch):
    monkeypatch.setattr(_probe, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(_probe, "_answer", lambda writer: signal.pause())
    assert _probe.try_kernel().not_tried
