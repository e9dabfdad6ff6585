"""Generated rulesets are what iptables-save would print, the same for a seed, and of the make-up that they claim."""

import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bench import rulesets, wire
from bench.rulesets import Header, Prefix, Rule, classbench, headers, inside, packet

ROOT = Path(__file__).parents[2]
KINDS = ("acl", "fw", "ipc")
needs_tool = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("iptables-legacy-restore") is None, reason="needs root and iptables-legacy")


def in_namespace(tmp_path, script: str, text: str) -> subprocess.CompletedProcess:
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XTABLES_LOCKFILE": str(tmp_path / "lock")}
    return subprocess.run(["unshare", "-n", "sh", "-ec", script], input=text, text=True, capture_output=True, env=env, timeout=60)


def texts():
    for kind in KINDS:
        for family in (4, 6):
            yield f"{kind}-v{family}", family, classbench(kind, 400, 3, family).text()
    yield "ports", 4, rulesets.ports(50).text()
    yield "addresses-v6", 6, rulesets.addresses(50, 1, 6).text()
    yield "blocklist", 4, rulesets.blocklist(200).text("blocked")
    yield "stateful", 4, rulesets.stateful(50)
    yield "kube", 4, rulesets.kube(8).text


@needs_tool
@pytest.mark.netns
@pytest.mark.parametrize("family, text", [pytest.param(family, text, id=name) for name, family, text in texts()])
def test_the_tool_takes_it_and_prints_the_same(tmp_path, family, text):
    """restore --test takes the text; restored and saved by the tool, rules and chains are line for line ours."""
    tool = "iptables-legacy" if family == 4 else "ip6tables-legacy"
    done = in_namespace(tmp_path, f"cat > {tmp_path}/r; {tool}-restore --test < {tmp_path}/r; {tool}-restore < {tmp_path}/r; {tool}-save", text)
    assert done.returncode == 0, done.stderr
    assert Counter(significant(done.stdout)) == Counter(significant(text))
    assert rules_in_order(done.stdout) == rules_in_order(text)


def significant(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def rules_in_order(text: str) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for line in significant(text):
        if line.startswith("-A"):
            out.setdefault(line.split()[1], []).append(line)
    return out


@needs_tool
@pytest.mark.netns
def test_nft_takes_the_blocklist(tmp_path):
    if shutil.which("nft", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("needs nft")
    done = in_namespace(tmp_path, "nft -f -", rulesets.nft_text(rulesets.blocklist(500)))
    assert done.returncode == 0, done.stderr


def test_a_seed_gives_the_same_text_in_every_process():
    code = "from bench.rulesets import classbench, kube; import hashlib; print(hashlib.sha256((classbench('fw', 300, 7).text() + kube(5).text).encode()).hexdigest())"
    runs = {subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=dict(os.environ, PYTHONHASHSEED=str(seed)), capture_output=True,
                           text=True, check=True).stdout for seed in (0, 1)}
    assert len(runs) == 1 and len(runs.pop()) == 65
    assert classbench("fw", 300, 7).rules != classbench("fw", 300, 8).rules
    assert classbench("ipc", 300, 7).rules == classbench("ipc", 600, 7).rules[:300]


@pytest.mark.parametrize("kind", KINDS)
def test_make_up(kind):
    """Prefixes nest, port classes and protocols come in the proportions of the profile, and all rules differ."""
    profile, made = rulesets.PROFILES[kind], classbench(kind, 4000).rules
    assert len({rule[:5] for rule in made}) == 4000
    anywhere = sum(rule.source.length == 0 for rule in made) / 4000
    assert abs(anywhere - profile.source[0] / sum(profile.source.values())) < 0.08
    with_ports = [rule for rule in made if rule.proto == wire.TCP and rule.sport == (0, 65535)]
    assert sum(rule.dport[0] == rule.dport[1] for rule in with_ports) / len(with_ports) > 0.4
    destinations = {rule.destination for rule in made}
    parents = {Prefix(p.address >> (32 - length) << (32 - length), length) for p in destinations for length in range(1, p.length)}
    assert len(parents & destinations) > 100        # a prefix that holds another one


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_headers(kind, family):
    made = classbench(kind, 300, 5, family)
    for header in headers(made, 200, "hits"):
        assert any(rule.matches(header, family) for rule in made.rules)
    for header in headers(made, 200, "misses"):
        answer = Header(header.proto, header.destination, header.source, header.dport, header.sport)
        assert not any(rule.matches(header, family) or rule.matches(answer, family) for rule in made.rules)
    assert len(set(headers(made, 200, "cold"))) == 200


def test_a_rule_that_would_match_everywhere_leaves_the_quiet_corner_alone():
    everything = Rule(Prefix(0, 0), Prefix(0, 0), None, (0, 65535), (0, 65535), "DROP")
    assert rulesets.quiet(everything, 4).proto == wire.TCP
    answers = everything._replace(proto=wire.UDP, sport=(1024, 65535), dport=(53, 53))
    assert rulesets.quiet(answers, 4).proto == wire.TCP
    assert rulesets.quiet(everything._replace(proto=wire.UDP, dport=(53, 53), sport=(80, 80)), 4).proto == wire.UDP


@pytest.mark.parametrize("family", [4, 6])
def test_packets_are_sound(family):
    """Checksums of every kind of packet sum to zero (RFC 1071), over the pseudo-header where the protocol has one."""
    rng = random.Random(1)
    for proto in (6, 17, 58 if family == 6 else 1, 50):
        rule = Rule(Prefix(0, 0), Prefix(0, 0), proto, (0, 65535), (0, 65535), "DROP")
        data = packet(inside(rule, rng, family), family)
        head = 20 if family == 4 else 40
        assert len(data) == (int.from_bytes(data[2:4]) if family == 4 else 40 + int.from_bytes(data[4:6]))
        assert family == 6 or wire.checksum(data[:20]) == 0xFFFF                    # ~0: a sound sum
        if proto != 50:
            ends = b"" if proto == 1 else data[12:20] if family == 4 else data[8:40]
            pseudo = b"" if proto == 1 else ends + (len(data) - head).to_bytes(4) + proto.to_bytes(4)
            assert wire.checksum(data[head:] + b"\0" * (len(data) % 2) + pseudo) == 0xFFFF


def test_services():
    made = rulesets.kube(16, endpoints=2)
    assert made.chains == 16 * 3 + 4 and len(made.services) == 16
    assert made.text.count("\n-A ") == made.rules
    for header in rulesets.service_headers(made, 50):
        assert f"-d {rulesets.Prefix(header.destination, 32).text(4)} -p {'udp' if header.proto == 17 else 'tcp'}" in made.text
