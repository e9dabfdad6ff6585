"""An edited Program is the compiled one: the same verdicts, marks, rule states and counters, edit after edit (delta.py).

Two stores take the same commits.  One edits its Program, the other compiles every time.
"""

import gc
import random

import pytest

from nfqfw import limits
from nfqfw._conntrack import ConntrackTable
from nfqfw._engine import Engine, LoadedProgram
from nfqfw._registry import NamedTables
from nfqfw.compile import compile_rulesets
from nfqfw.daemon import live
from nfqfw.daemon.evaluator import state_copies, table_places
from nfqfw.daemon.live import LiveStore
from nfqfw.errors import NfqfwError
from nfqfw.packets import FORWARD, PacketIn
from nfqfw.plan import hook_mask
from nfqfw.rules import applet, load
from scapy.layers.inet import IP, UDP
from tests.engine.support import NAMES, host_block
from tests.engine.test_index import random_packet, random_rule, random_ruleset

SECOND = 1_000_000_000
LIMITED = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m limit --limit 1/hour --limit-burst 20 -j ACCEPT
-A FORWARD -m limit --limit 1/sec --limit-burst 1 -j DROP
COMMIT
"""


class EngineEvaluator:
    """A LiveEvaluator without queues: packets come from the test."""

    def __init__(self):
        self.engine = Engine(ConntrackTable(), host_block(), attached=hook_mask(frozenset(("INPUT", "FORWARD", "OUTPUT"))), seed=7)
        self.named = NamedTables()
        self.loaded = self.program = self.failure = None
        self.edits = 0

    def load(self, program, kept):
        loaded = LoadedProgram(program, 1, self.named, self.loaded)
        if self.loaded is not None:
            loaded.inherit(self.loaded, state_copies(self.program, program, kept))
            loaded.inherit_tables(self.loaded, table_places(self.program, program, kept))
        if self.failure is not None:
            error, self.failure = self.failure, None
            raise error
        self.engine.load(loaded)
        self.named.keep(program.named)
        old, self.loaded, self.program = self.loaded, loaded, program
        self.edits += loaded.goes_on
        return None if loaded.goes_on else old.counters_list() if old is not None else []

    def counters(self):
        return self.loaded.counters_list() if self.loaded is not None else []

    def judge(self, packet, now, **facts):
        decision = self.engine.one(PacketIn(packet, FORWARD, NAMES["eth0"], NAMES["eth1"], **facts), now, now)
        return decision.verdict, decision.reason, decision.mark


class Pair:
    """The store that edits, and the one that compiles."""

    def __init__(self, text, family=2, index_from=None):
        self.family = family
        self.edited = LiveStore(EngineEvaluator(), lambda rulesets, generation: compile_rulesets(rulesets, generation, index_from, 0))
        self.whole = LiveStore(EngineEvaluator(), lambda rulesets, generation: compile_rulesets(rulesets, generation, index_from, 1 << 30))
        self.now = 1000 * SECOND
        self.edited.put({family: load(text, "r", family)})
        self.copy()

    def copy(self):
        self.whole.put({self.family: self.edited.ruleset(self.family)})

    def command(self, *words):
        done = applet.run(["ip6tables" if self.family == 10 else "iptables", *words], self.edited)
        assert done.code == 0, done
        self.copy()

    def rules(self, chain, table="mangle"):
        return self.edited.ruleset(self.family).tables[table].chains[chain].rules

    def compare(self, packets, **facts):
        for packet in packets:
            self.now += SECOND // 1000
            a, b = (store.evaluator.judge(packet, self.now, family=self.family, **facts) for store in (self.edited, self.whole))
            assert a == b, packet.hex()
        assert self.edited.counts() == self.whole.counts()

    @property
    def edits(self):
        assert self.whole.evaluator.edits == 0
        return self.edited.evaluator.edits


def edit(rng, pair, v6):
    """One command that changes a rule or two of the mangle table."""
    chain = rng.choice(("FORWARD", "a", "b", "c"))
    chains = ["a", "b", "c"]
    number = len(pair.rules(chain))
    kind = rng.choice("AAIIIDDDRRZ" if number else "A")
    if kind == "A" or kind == "I" or kind == "R":
        jumps = chains[("FORWARD", "a", "b", "c").index(chain):]
        words = random_rule(rng, chain, jumps, v6).split()
        if rng.random() < 0.1:
            words += ["-m", "limit", "--limit", "1/sec", "--limit-burst", "3"]
        if rng.random() < 0.04:
            words += ["-m", "recent", "--set", "--name", "seen"]
        place = [] if kind == "A" else [str(rng.randrange(1, number + (kind == "I") + 1))]
        at = words.index("-A")
        rest = words[:at] + words[at + 2:]
        return ["-t", "mangle", f"-{kind}", chain, *place, *rest]
    return ["-t", "mangle", f"-{kind}", chain, str(rng.randrange(1, number + 1))]


@pytest.mark.parametrize("index_from", [1, 1 << 30], ids=["indexed", "linear"])
@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
@pytest.mark.parametrize("seed", range(6))
def test_edits_are_what_compiling_gives(seed, v6, index_from):
    rng = random.Random(f"delta {seed} {v6}")
    pair = Pair(LIMITED + random_ruleset(rng, v6), 10 if v6 else 2, index_from)
    for _ in range(60):
        pair.command(*edit(rng, pair, v6))
        pair.compare([random_packet(rng, v6) for _ in range(8)], mark=rng.randrange(2))
        if rng.random() < 0.04:
            pair.command("-t", "mangle", *rng.choice((("-Z", "FORWARD"), ("-P", "FORWARD", "DROP"), ("-P", "FORWARD", "ACCEPT"), ("-F", "a"))))
    assert pair.edits > 30


SET = "\n".join(["*filter", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]",
                 *(f"-A FORWARD -s 10.0.{n // 200}.{n % 200} -p udp -m udp --dport 53 -j DROP" for n in range(1200)), "COMMIT", ""])


def packet(n, port=53):
    return bytes(IP(src=f"10.0.{n // 200}.{n % 200}", dst="10.0.2.2") / UDP(sport=1, dport=port))


def test_a_rule_counts_on_through_edits():
    pair = Pair(SET)
    pair.compare([packet(7)] * 3)
    first = pair.rules("FORWARD", "filter")[7]
    for words in (("-I", "FORWARD", "1", "-s", "10.0.0.9", "-j", "ACCEPT"), ("-D", "FORWARD", "3"), ("-A", "FORWARD", "-j", "DROP")):
        pair.command(*words)
        pair.compare([packet(7), packet(9), packet(1, 99)])
    assert pair.edits == 3
    assert pair.edited.counts()[id(first)] == (6, 6 * 28)
    listed = pair.edited.counted(2).tables["filter"].chains["FORWARD"].rules
    assert [(rule.packets, rule.bytes) for rule in (listed[0], listed[-1])] == [(3, 3 * 28), (1, 28)]


def test_a_chain_that_the_edit_empties():
    pair = Pair(SET.replace("-A FORWARD -s 10.0.0.0 ", "-A FORWARD -j one\n-A one -s 10.0.0.0 ")
                .replace(":OUTPUT ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]\n:one - [0:0]"))
    pair.compare([packet(0)])
    pair.command("-D", "one", "1")
    pair.compare([packet(0), packet(3)])
    pair.command("-A", "one", "-s", "10.0.0.0", "-j", "DROP")
    pair.compare([packet(0), packet(3)])
    assert pair.edits == 2


def test_features_come_and_go_with_their_rules():
    pair = Pair(SET)
    program = lambda: pair.edited.program
    assert program().features[2] == frozenset()
    pair.command("-I", "FORWARD", "1", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT")
    assert program().runs and program().features[2] == {"conntrack", "defrag"}
    pair.compare([packet(1), packet(1, 99), packet(1, 99)])
    assert pair.edited.evaluator.engine.stats()["accepted"] == pair.whole.evaluator.engine.stats()["accepted"]
    pair.command("-D", "FORWARD", "1")
    assert program().runs and program().features[2] == frozenset()
    pair.command("-I", "INPUT", "1", "-j", "DROP")
    assert program().used_hooks[2] == pair.whole.program.used_hooks[2] == {("filter", "FORWARD"), ("filter", "INPUT")}


def test_states_of_the_edited_table_start_afresh_and_others_go_on():
    """As a commit of the kernel does it: spec of `limit`, two packets at once and then one an hour."""
    text = SET.replace(":OUTPUT ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]\n-A FORWARD -p udp -m limit --limit 1/hour --limit-burst 2 -j ACCEPT", 1)
    raw = "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A PREROUTING -m limit --limit 1/hour --limit-burst 2 -j ACCEPT\nCOMMIT\n"
    pair = Pair(text + raw)
    pair.compare([packet(1)] * 3)
    pair.command("-A", "FORWARD", "-m", "limit", "--limit", "1/hour", "--limit-burst", "1")
    pair.compare([packet(1000, 99)] * 4)
    assert pair.edits == 1
    counts = pair.edited.counts()
    assert counts[id(pair.rules("PREROUTING", "raw")[0])][0] == 2
    assert counts[id(pair.rules("FORWARD", "filter")[0])][0] == 4
    assert counts[id(pair.rules("FORWARD", "filter")[-1])][0] == 1


def test_when_the_room_is_used_up_all_is_compiled():
    pair = Pair(SET)
    for n in range(limits.EDIT_RULES + 1):
        pair.command("-I", "FORWARD", str(2 * n + 1), "-s", f"10.0.9.{n}", "-j", "ACCEPT")
        pair.compare([packet(1800 + n), packet(n)])
    assert pair.edits == limits.EDIT_RULES
    assert not pair.edited.program.runs


def test_many_deletions_do_not_scatter_a_chain_for_ever():
    pair = Pair(SET)
    for n in range(2 * limits.EDIT_RUNS):
        pair.edited.put({2: deleted(pair.edited.ruleset(2), n + 1)})
        assert sum(map(len, pair.edited.program.runs.values())) <= limits.EDIT_RUNS
    pair.copy()
    pair.compare([packet(n) for n in range(0, 1200, 7)])
    assert limits.EDIT_RUNS // 2 < pair.edits < 2 * limits.EDIT_RUNS


def deleted(ruleset, number):
    table = ruleset.tables["filter"]
    chain = table.chains["FORWARD"]
    return ruleset.with_table(table.with_chain(chain.with_rules(chain.rules[:number] + chain.rules[number + 1:])))


def test_old_generations_go():
    pair = Pair(SET)
    before = sum(isinstance(thing, LoadedProgram) for thing in gc.get_objects())
    for n in range(40):
        pair.command("-A", "FORWARD", "-s", f"10.1.0.{n}", "-j", "DROP")
    assert pair.edits == 40
    assert sum(isinstance(thing, LoadedProgram) for thing in gc.get_objects()) <= before + 4


def test_a_refused_edit_changes_nothing():
    pair = Pair(SET)
    pair.command("-A", "FORWARD", "-s", "10.1.0.1", "-j", "DROP")
    program = pair.edited.program
    done = applet.run(["iptables", "-A", "FORWARD", "-m", "ipvs", "--ipvs", "-j", "DROP"], pair.edited)
    assert done.code != 0 and pair.edited.program is program
    pair.command("-A", "FORWARD", "-s", "10.1.0.2", "-j", "DROP")
    pair.compare([bytes(IP(src=f"10.1.0.{n}", dst="10.0.2.2") / UDP()) for n in (1, 2, 3)])
    assert pair.edits == 2


def test_after_a_failed_hand_over_all_is_compiled():
    """Memory of two edits of one Program is the same: a thread may hold on to the one that failed."""
    pair = Pair(SET)
    pair.edited.evaluator.failure = NfqfwError("a queue thread did not finish its batch")
    assert applet.run(["iptables", "-A", "FORWARD", "-s", "10.1.0.1", "-j", "DROP"], pair.edited).code != 0
    pair.command("-A", "FORWARD", "-s", "10.1.0.2", "-j", "DROP")
    assert pair.edits == 0
    pair.compare([bytes(IP(src=f"10.1.0.{n}", dst="10.0.2.2") / UDP()) for n in (1, 2, 3)])


def test_edits_settle(monkeypatch):
    pair = Pair(SET)
    assert not pair.edited.settle()
    pair.command("-I", "FORWARD", "5", "-s", "10.0.0.9", "-j", "ACCEPT")
    pair.compare([packet(9), packet(8)])
    assert not pair.edited.settle()                         # more may come
    monkeypatch.setattr(live, "EDIT_SETTLE_SECONDS", 0)
    assert pair.edited.settle() and not pair.edited.program.runs
    pair.compare([packet(9), packet(8)])
    assert not pair.edited.settle()
    for words in (("-A", "FORWARD", "-j", "DROP"), ("-D", "FORWARD", "1202")):
        pair.command(*words)
    assert pair.edited.program.runs and not pair.edited.settle()            # taken back: nothing is in pieces
    pair.compare([packet(9), packet(8)])


def test_an_edit_while_settling_wins(monkeypatch):
    pair = Pair(SET)
    monkeypatch.setattr(live, "EDIT_SETTLE_SECONDS", 0)
    pair.command("-A", "FORWARD", "-s", "10.1.0.1", "-j", "DROP")
    compile_whole = pair.edited.compile

    def slow(*arguments):
        pair.edited.compile = compile_whole
        program = compile_whole(*arguments)
        pair.command("-A", "FORWARD", "-s", "10.1.0.2", "-j", "DROP")
        return program

    pair.edited.compile = slow
    assert not pair.edited.settle()
    assert len(pair.edited.program.runs) == 1 and len(pair.rules("FORWARD", "filter")) == 1202
    pair.compare([bytes(IP(src=f"10.1.0.{n}", dst="10.0.2.2") / UDP()) for n in (1, 2, 3)])


def test_positions_are_those_of_the_listing():
    pair = Pair(SET)
    for words in (("-I", "FORWARD", "3", "-j", "MARK"), ("-D", "FORWARD", "700"), ("-A", "FORWARD", "-j", "DROP")):
        if "MARK" in words:
            words = ("-I", "FORWARD", "3", "-s", "10.9.0.1")
        pair.command(*words)
    program = pair.edited.program
    chain = pair.rules("FORWARD", "filter")
    rows = {id(rule): row for row, rule in enumerate(program.rules)}
    assert [program.position(rows[id(rule)]) for rule in chain] == list(range(1, len(chain) + 1))
