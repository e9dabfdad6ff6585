"""nfqfw run: what it says, how it ends, and that a run that cannot start leaves nothing attached."""

import json
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from netns import Lab
from nfqfw.__main__ import main
from nfqfw.demo.show import READY, read_until, ruleset

pytest.importorskip("nfqfw._engine", reason="needs the compiled engine")
NOBODY = 65534


def run_argv(*argv) -> list[str]:
    return [sys.executable, "-m", "nfqfw", "run", *map(str, argv)]


def run(*argv, **options) -> subprocess.CompletedProcess:
    return subprocess.run(run_argv(*argv), capture_output=True, text=True, timeout=60, **options)


@pytest.fixture
def lab():
    with Lab() as lab:
        yield lab


@contextmanager
def running(host, *argv):
    process = host.popen(run_argv(*argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = read_until(process.stderr, READY, 20)
        assert READY in said, said
        yield process
    finally:
        process.kill()
        process.wait()


def attached(host) -> str:
    return host.run(["nft", "list", "tables"]).stdout


def test_check_only_loads_and_needs_no_root(monkeypatch, capsys):
    monkeypatch.setattr("os.geteuid", lambda: NOBODY)
    assert main(["nfqfw", "run", str(ruleset(4)), "--rules6", str(ruleset(6)), "--check"]) == 0
    assert capsys.readouterr().out == f"{ruleset(4)}: ok\n{ruleset(6)}: ok\n"


@pytest.mark.parametrize("text, code, said", [
    ("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j NOSUCH\nCOMMIT\n", 3, ":3:13: "),
    (None, 2, "No such file"),
])
def test_a_bad_or_missing_ruleset(tmp_path, text, code, said):
    path = tmp_path / "rules.v4"
    if text is not None:
        path.write_text(text)
    done = run(path)
    assert done.returncode == code and said in done.stderr and "Traceback" not in done.stderr


def test_without_root_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr("os.geteuid", lambda: NOBODY)
    assert main(["nfqfw", "run", str(ruleset(4))]) == 4
    said = capsys.readouterr().err
    assert "needs root" in said and "fix: " in said


@pytest.mark.netns
def test_root_without_the_capability_is_told_so(lab):
    done = lab.firewall.run(["setpriv", "--bounding-set=-net_admin", *run_argv(ruleset(4))])
    assert done.returncode == 4 and "CAP_NET_ADMIN" in done.stderr and "Traceback" not in done.stderr
    assert "nfqfw" not in attached(lab.firewall)


@pytest.mark.netns
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_in_order_and_prints_totals(lab, number):
    with running(lab.firewall, ruleset(4), "--json") as process:
        assert "inet nfqfw" in attached(lab.firewall)
        assert lab.client.run(["ping", "-c", "2", "-i", "0.2", lab.server.address()]).returncode == 0
        process.send_signal(number)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "nfqfw" not in attached(lab.firewall)
    totals = json.loads(out)
    counts = {(r["chain"], r.get("position")): r["packets"] for r in totals["rules"]}
    assert counts["lan", 1] == 1                    # the echo request that opened the connection
    assert counts["FORWARD", 1] == 3                # the answer, the second request and its answer


@pytest.mark.netns
def test_trace_explains_a_live_packet(lab):
    with running(lab.firewall, ruleset(4), "--trace") as process:
        lab.client.run(["ping", "-c", "1", "-W", "1", lab.server.address()])
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert "ICMP 10.0.1.2 -> 10.0.2.2 type 8 code 0  84 bytes, at FORWARD in eth0 out eth1" in out
    assert "conntrack: NEW" in out
    rule = next(i for i, line in enumerate(ruleset(4).read_text().splitlines(), 1) if "--comment ping " in line)
    assert f"=> ACCEPT by {ruleset(4)}:{rule} (filter lan rule 1)" in out


@pytest.mark.netns
def test_log_rules_print_the_kernels_text(lab):
    with running(lab.firewall, ruleset(4)) as process:
        with lab.client.socket() as s:
            s.settimeout(0.3)
            with pytest.raises(TimeoutError):
                s.connect((lab.server.address(), 22))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert "blocked: IN=eth0 OUT=eth1 MAC=00:00:00:00:00:00:" in errors
    assert "SRC=10.0.1.2 DST=10.0.2.2 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=" in errors
    assert " DF PROTO=TCP SPT=" in errors and " DPT=22 WINDOW=64240 RES=0x00 SYN URGP=0" in errors


@pytest.mark.netns
def test_a_second_run_in_the_namespace_is_refused_and_the_first_goes_on(lab):
    with running(lab.firewall, ruleset(4)):
        done = lab.firewall.run(run_argv(ruleset(4)))
        assert done.returncode == 4 and "already runs" in done.stderr and "fix: " in done.stderr
        assert lab.client.run(["ping", "-c", "1", "-W", "1", lab.server.address()]).returncode == 0


@pytest.mark.netns
def test_a_queue_that_another_process_owns(lab):
    """The owner is a bare queue of ours in a process of its own."""
    owner = lab.firewall.popen(
        [sys.executable, "-c", "from nfqfw.queue._nfnetlink import Queue; q = Queue(0); q.open(); print('bound', flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout.readline() == "bound\n"
        done = lab.firewall.run(run_argv(ruleset(4)))
        assert done.returncode == 4 and "queue 0" in done.stderr and "fix: " in done.stderr and "Traceback" not in done.stderr
        assert "nfqfw" not in attached(lab.firewall)
    finally:
        owner.kill()
        owner.wait()
