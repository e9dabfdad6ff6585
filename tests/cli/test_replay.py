"""nfqfw replay: the demo's questions as a capture; verdicts are those that the demo observes live, and on the kernel."""

import json
import subprocess
import sys

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

from nfqfw.demo.show import ruleset

pytest.importorskip("nfqfw._engine", reason="needs the compiled engine")
CLIENT, SERVER = "10.0.1.2", "10.0.2.2"


def tcp(source, destination, sport, dport, flags, **fields):
    return IP(src=source, dst=destination) / TCP(sport=sport, dport=dport, flags=flags, **fields)


# packet, verdict
STORY = [
    (tcp(CLIENT, SERVER, 40000, 80, "S", seq=1), "ACCEPT"),
    (tcp(SERVER, CLIENT, 80, 40000, "SA", seq=100, ack=2), "ACCEPT"),
    (tcp(CLIENT, SERVER, 40000, 80, "A", seq=2, ack=101), "ACCEPT"),
    (tcp(CLIENT, SERVER, 40001, 22, "S"), "DROP"),
    (tcp(CLIENT, SERVER, 40002, 23, "S"), "DROP"),
    (IP(src=CLIENT, dst=SERVER) / ICMP(id=5), "ACCEPT"),
    (IP(src=SERVER, dst=CLIENT) / ICMP(type=0, id=5), "ACCEPT"),
    (IP(src=SERVER, dst=CLIENT) / ICMP(type=0, id=6), "DROP"),                  # an answer that nobody asked for
    (IP(src=CLIENT, dst=SERVER) / UDP(sport=5, dport=9) / b"x", "ACCEPT"),
    (IP(src=SERVER, dst=CLIENT) / ICMP(type=3, code=3) / IP(src=CLIENT, dst=SERVER) / UDP(sport=5, dport=9, len=9) / b"x", "ACCEPT"),
    (tcp(CLIENT, SERVER, 40004, 8443, "S"), "DROP"),
    (tcp(SERVER, CLIENT, 5, 8080, "S"), "DROP"),
]


@pytest.fixture
def capture(tmp_path):
    path = tmp_path / "story.pcap"
    packets = [Ether(src="02:00:00:00:00:01") / packet for packet, _ in STORY]
    for number, packet in enumerate(packets):
        packet.time = 1_000_000 + number / 100
    wrpcap(str(path), packets)
    return path


@pytest.fixture
def host(tmp_path):
    """Snapshot of the demo's firewall, so that the packets' ways are known."""
    from nfqfw.host import Host
    path = tmp_path / "host.json"
    Host.offline({"eth0": ["10.0.1.1/24"], "eth1": ["10.0.2.1/24"]}).save(path)
    return path


def replay(*argv) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "nfqfw", "replay", *map(str, argv)], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("exact", [[], ["--exact"]], ids=["fused", "every hook"])
def test_each_packet_has_the_verdict_of_the_demo(capture, host, exact):
    done = replay(ruleset(4), capture, "--host", host, "--json", *exact)
    assert done.returncode == 0, done.stderr
    *packets, totals = map(json.loads, done.stdout.splitlines())
    verdicts = [fate["verdict"] for item in packets for fate in item["fates"] if fate["packet"] == item["packet"]]
    assert verdicts == [verdict for _, verdict in STORY]
    assert totals["verdicts"] == {"ACCEPT": 7, "DROP": 5}
    counts = {(r["chain"], r.get("position")): r["packets"] for r in totals["rules"]}
    assert counts["FORWARD", 3] == counts["blocked", 2] == 1            # ssh
    assert counts["FORWARD", 1] == 4                                    # SYN+ACK, ACK, echo reply, the ICMP error
    assert counts["lan", 1] == counts["lan", 2] == counts["lan", 3] == 1


def test_json_has_the_walk_as_data(capture, host):
    done = replay(ruleset(4), capture, "--host", host, "--json", "--trace")
    packets = [json.loads(line) for line in done.stdout.splitlines()[:-1]]
    (walk,) = packets[3]["trace"]                                       # ssh
    assert walk["packet"].startswith("TCP 10.0.1.2:40001 -> 10.0.2.2:22 SYN") and walk["in"] == "eth0" and walk["out"] == "eth1"
    assert walk["verdict"] == "DROP"
    steps = [(step["event"], step.get("chain"), step.get("rule")) for step in walk["steps"]]
    assert ("miss", "FORWARD", 1) in steps and ("match", "FORWARD", 3) in steps and ("match", "blocked", 2) in steps
    missed = next(step for step in walk["steps"] if step["event"] == "miss")
    assert missed["failed"] == "-m conntrack --ctstate RELATED,ESTABLISHED" and missed["at"].startswith(str(ruleset(4)) + ":")
    assert {"event": "conntrack", "ctstate": "NEW"}.items() <= next(s for s in walk["steps"] if s["event"] == "conntrack").items()
    assert packets[3]["log"][0].startswith("blocked: IN=eth0 OUT=eth1")


def test_the_text_names_counts_and_log_lines(capture, host):
    done = replay(ruleset(4), capture, "--host", host)
    assert f"{capture}: 12 packets: 7 ACCEPT, 5 DROP\n" in done.stdout
    assert "4: LOG blocked: IN=eth0 OUT=eth1 MAC=00:00:00:00:00:00:02:00:00:00:00:01:08:00 SRC=10.0.1.2 DST=10.0.2.2" in done.stdout


def test_without_interfaces_it_says_what_is_missing(capture):
    done = replay(ruleset(4), capture)
    assert done.returncode == 0 and "note: the ruleset names interfaces" in done.stderr


@pytest.mark.parametrize("content", [None, b"", b"not a capture", b"\xa1\xb2\xc3\xd4 cut"])
def test_a_bad_capture_is_one_message(tmp_path, content):
    path = tmp_path / "bad.pcap"
    if content is not None:
        path.write_bytes(content)
    done = replay(ruleset(4), path, "--in", "eth0", "--out", "eth1")
    assert done.returncode == 2 and "Traceback" not in done.stderr and str(path) in done.stderr


def test_a_bad_ruleset_is_exit_3(tmp_path, capture):
    path = tmp_path / "bad.v4"
    path.write_text("*filter\n-A NOSUCH -j ACCEPT\nCOMMIT\n")
    done = replay(path, capture)
    assert done.returncode == 3 and f"{path}:2:" in done.stderr


@pytest.mark.netns
def test_a_snapshot_of_a_live_host_is_what_replay_takes(capture, tmp_path):
    from netns import Lab
    path = tmp_path / "firewall.json"
    with Lab() as lab:
        done = lab.firewall.run([sys.executable, "-m", "nfqfw", "snapshot", str(path)])
    assert done.returncode == 0, done.stderr
    judged = replay(ruleset(4), capture, "--host", path, "--json")
    assert json.loads(judged.stdout.splitlines()[-1])["verdicts"] == {"ACCEPT": 7, "DROP": 5}
