"""The fast lane: thousands of cases whose answers the kernel gave once, run on the engine in-process.

`make oracle` records anew and says what changed; `make oracle CASE=n` shows both twins' whole answers for one seed.
"""

import tomllib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from nfqfw.ops import ACTIONS, TESTS
from nfqfw.reasons import REASONS
from nfqfw.selftest import lanes, record
from nfqfw.selftest.generate import GENERATOR, all_features, listed_as_explained
from nfqfw.selftest.matches import MATCHES
from nfqfw.selftest.targets import TARGETS
from tests.oracle.recording import RECORDING, UNSUPPORTED

PARTS = 2
SIZE_LIMIT = 5 << 20            # bytes of recordings in git
CASES = 20_000
HITS = 50                       # each opcode, verdict, reason and class must be hit so often

# Drops of our own that no case can bring about: why, and where they are tested.
ELSEWHERE = {
    "none": "not a drop", "truncated": "offline packets are whole", "table_full": "tests/conntrack", "chain_too_long": "tests/conntrack",
    "nat_no_address": "every interface of the lab has one", "rewrite": "a bug in us", "internal": "a bug in us",
    "stack": "compile.py makes room for every chain", "frag_limit": "tests/fragments", "frag_timeout": "tests/fragments",
    "frag_ecn": "tests/fragments", "frag_bad": "tests/fragments", "nat_exhausted": "tests/nat", "masq_moved": "the lab's routes stay",
    "bad_ip": "the kernel shows no such packet to a hook: tests/fuzz",
}
NO_SUCH_ACTION = {"secmark": "needs a kernel with a security module that has labels"}


def _part(part: int) -> lanes.Report:
    return lanes.check_recording(RECORDING, part=part, parts=PARTS)


@pytest.fixture(scope="module")
def report() -> lanes.Report:
    whole = lanes.Report()
    with ProcessPoolExecutor(PARTS, mp_context=get_context("spawn")) as pool:
        for part in pool.map(_part, range(PARTS)):
            whole.add(part)
    return whole


@pytest.mark.timeout(900)
def test_every_recorded_answer_is_ours(report):
    report.set_aside(listed_as_explained(UNSUPPORTED))
    shown = "\n".join(f"seed {seed}: {lines[:4]}" for seed, lines in list(report.different.items())[:10])
    assert not report.different, f"{len(report.different)} of {report.cases} cases differ; make oracle CASE=seed shows one\n{shown}"
    assert report.cases + len(report.undecided) == CASES and len(report.undecided) < CASES // 50


def test_everything_is_hit(report):
    """Every opcode, every action, each verdict, every class, every reason that a case can bring about."""
    wanted = [f"class {c}" for c in ("NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED")]
    wanted += ["verdict ACCEPT", "verdict DROP", "verdict HELD", "target ACCEPT", "target DROP", "target RETURN", "target jump",
               "target goto", "target none"]
    wanted += [f"op {name}" for name in TESTS] + [f"target {name}" for name in ACTIONS if name not in NO_SUCH_ACTION]
    wanted += [f"reason {r}" for r in REASONS if r not in ELSEWHERE]
    assert {name: report.seen[name] for name in wanted if report.seen[name] < HITS} == {}


def test_every_feature_is_hit(report):
    """Each row of the generator's tables that was on when the recording was made ends in an opcode or action that was hit."""
    hit = Counter({name.split(" ", 1)[1]: n for name, n in report.seen.items() if name.startswith(("op ", "target "))
                   and n >= HITS})
    names = {**{f: f for f in record.read(RECORDING)[0]["features"]}, **OPS}
    assert {f for f in record.read(RECORDING)[0]["features"] if not hit[names[f]]} == set()


OPS = {     # feature of the generator -> opcode or action of ops.py, where the names are not one
    "connmark_set": "connmark", "tos_set": "tos", "dscp_set": "tos", "dscp": "tos", "ttl_set": "ttl", "hl_set": "ttl", "hl": "ttl",
    "tcpmss_set": "tcpmss", "hbh": "options6", "dst": "options6", "frag": "frag6", "ipv6header": "headers6", "rt": "rt6", "mh": "mh6",
    "ecn_remove": "ecn", "zone": "ct", "ct_helper": "ct", "ct_timeout": "ct", "snat": "nat", "dnat": "nat", "masquerade": "nat", "redirect": "nat",
    "netmap": "nat",
}


def test_the_recording_is_of_this_generator_and_small():
    header, _ = record.read(RECORDING)
    assert header["generator"] == GENERATOR and header["count"] == CASES
    assert RECORDING.stat().st_size <= SIZE_LIMIT


def test_nothing_the_engine_evaluates_is_left_out_without_a_word():
    """A feature that compiles is in the recording or has its line in unsupported.toml."""
    header, _ = record.read(RECORDING)
    listed = tomllib.loads(UNSUPPORTED.read_text())["features"]
    print(f"unsupported.toml: {len(listed)} features; rows that do not compile: {sorted({*MATCHES, *TARGETS} - all_features())}")
    assert all_features() - set(header["features"]) - set(listed) == set(), "make oracle records anew"


def test_a_changed_answer_is_noticed():
    answer = next(record.read(RECORDING)[1])
    changed = record.Answer([answer.steps[0] ^ 1, *answer.steps[1:]], answer.counters, answer.connections ^ 1)
    assert record.unpack_all(record.pack(answer), 1) == [answer] != [changed]
