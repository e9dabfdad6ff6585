"""The bulk compiler writes for each rule exactly what lower_rule says in plain Python, and keeps nothing that a later rule must not see."""

import pytest

from nfqfw import ops
from nfqfw._layout import FEATURES
from nfqfw.compile import CHAIN_ROW, HEADER, NONE, RULE_ROW, TEST_ROW, compile_rulesets
from nfqfw.errors import RuleErrors
from nfqfw.ext.lowering import Action, Unevaluated
from nfqfw.rules import load, lower_rule
from nfqfw.rules.model import Jump, Standard
from tests.rules import gen

FAMILIES = {4: 2, 6: 10}


class Decoded:
    """A Program's block read back, by the layout of _program.pxd."""

    def __init__(self, program):
        self.program, self.block = program, program.block
        header = HEADER.unpack_from(self.block)
        self.rules, self.tests, self.data, self.chains = header[6], header[8], header[10], header[4]
        self.features = header[-2:]

    def rule(self, row):
        return RULE_ROW.unpack_from(self.block, self.rules + RULE_ROW.size * row)

    def test(self, row):
        return TEST_ROW.unpack_from(self.block, self.tests + TEST_ROW.size * row)

    def info(self, offset, size):
        return self.block[self.data + offset:][:size]

    def state(self, row, offset):
        size = next(size for rule, at, size in self.program.states if (rule, at) == (row, offset))
        return self.program.state_image[offset:offset + size]


def evaluable(family, seed):
    """A ruleset of rules that this build evaluates."""
    ruleset = load(gen.ruleset(seed, family, 200), "gen", FAMILIES[family])
    for table in ruleset.tables.values():
        for chain in table.chains.values():
            chain.rules[:] = [rule for rule in chain.rules if not unevaluated(rule)]
    return ruleset


def unevaluated(rule):
    tests, target, _ = lower_rule(rule)
    return any(isinstance(part, Unevaluated) for part in (*tests, target)) or any(test.op not in ops.TESTS for test in tests)


def match_numbers(rule):
    """Which match of the rule's text each test comes from; 0 = its own part."""
    of_matches = [number for number, use in enumerate(rule.matches, 1) for _ in use.ext.lower(use, rule)]
    return [0] * (len(lower_rule(rule)[0]) - len(of_matches)) + of_matches


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("seed", range(6))
def test_rows_are_what_lower_rule_says(family, seed):
    program = compile_rulesets([evaluable(family, seed)])
    decoded = Decoded(program)
    features, at = set(), 0
    for row, rule in enumerate(program.rules):
        tests, target, asked = lower_rule(rule)
        features |= asked
        first, n_tests, code, argument, counter, flags = decoded.rule(row)
        assert (first, n_tests, counter) == (at, len(tests), row)
        at += n_tests
        assert flags == (target.reads if isinstance(target, Action) else 0)
        for i, (test, number) in enumerate(zip(tests, match_numbers(rule), strict=True)):
            op, flag, info, state, match = decoded.test(first + i)
            assert (ops.TESTS[op], flag, match) == (test.op, test.reads, number)
            skip = 4 if test.named else 0                       # the first word is the number of its table
            assert decoded.info(info + skip, len(test.info) - skip) == test.info[skip:]
            assert (decoded.state(row, state) if state != NONE else b"") == test.state
            if test.named:
                number = int.from_bytes(decoded.info(info, 4), "little")
                assert test.named.config in program.named[number].configs
        check_target(decoded, program, row, target, code, argument)
    assert program.features[FAMILIES[family]] == features
    assert decoded.features[family == 6] == sum(FEATURES[name] for name in features)


def check_target(decoded, program, row, target, code, argument):
    if target is None:
        assert (code, argument) == (0, 0)
    elif isinstance(target, Standard):
        assert (code, argument) == (("ACCEPT", "DROP", "RETURN", "QUEUE").index(target.name) + 1, 0)
    elif isinstance(target, Jump):
        here, there = program.chains[program.rule_chain[row]], program.chains[argument]
        assert (code, there.chain.name, there.table) == (6 if target.goto else 5, target.chain, here.table)
    else:
        assert isinstance(target, Action)
        assert ops.ACTIONS[code - 16] == target.op
        assert decoded.info(argument, len(target.info)) == target.info


@pytest.mark.parametrize("family", [4, 6])
def test_positions_and_chains(family):
    program = compile_rulesets([evaluable(family, 3)])
    decoded = Decoded(program)
    for number, info in enumerate(program.chains):
        first, n_rules, *_ = CHAIN_ROW.unpack_from(decoded.block, decoded.chains + CHAIN_ROW.size * number)
        assert list(program.rules[first:first + n_rules]) == info.chain.rules
        assert [program.position(first + i) for i in range(n_rules)] == list(range(1, n_rules + 1))
        assert set(program.rule_chain[first:first + n_rules]) <= {number}


def program_of(*rules):
    return compile_rulesets([load("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"
                                  + "".join(f"-A INPUT {rule}\n" for rule in rules) + "COMMIT\n", "rules", 2)])


def test_equal_infos_share_one_place():
    program = program_of("-s 10.0.0.1 -p tcp --dport 80", "-s 10.0.0.1 -p tcp --dport 80", "-s 10.0.0.1 -p tcp --dport 81")
    decoded = Decoded(program)
    assert [decoded.test(i)[2] for i in range(3)] == [decoded.test(3 + i)[2] for i in range(3)]
    assert decoded.test(6)[2] == decoded.test(0)[2] and decoded.test(8)[2] != decoded.test(2)[2]


def test_many_infos_stay_apart():
    """Enough to widen the table of equal infos several times."""
    addresses = [f"10.{i >> 8 & 255}.{i & 255}.1" for i in range(20_000)]
    program = program_of(*(f"-s {address}" for address in addresses))
    decoded = Decoded(program)
    assert len({decoded.test(i)[2] for i in range(len(addresses))}) == len(addresses)
    assert [".".join(map(str, decoded.info(decoded.test(i)[2], 4))) for i in range(len(addresses))] == addresses


def test_a_match_that_two_protocols_share_is_lowered_for_each():
    """One Use object in rules of two protocols: what was kept for the one is not taken for the other."""
    ruleset = load("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 80\n-A INPUT -p udp -m udp --dport 81\nCOMMIT\n", "rules", 2)
    rules = ruleset.tables["filter"].chains["INPUT"].rules
    seen = []
    use = rules[0].matches[0]
    rules[1].matches = (use,)
    lower = use.ext.lower
    try:
        use.ext.lower = lambda use, rule: (seen.append(rule.protocol), lower(use, rule))[1]
        compile_rulesets([ruleset])
        compile_rulesets([ruleset])
    finally:
        del use.ext.lower
    assert seen[:2] == [6, 17]


def test_what_is_kept_is_lowered_once():
    ruleset = load("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 80\nCOMMIT\n", "rules", 2)
    use = ruleset.tables["filter"].chains["INPUT"].rules[0].matches[0]
    seen = []
    lower = use.ext.lower
    try:
        use.ext.lower = lambda use, rule: (seen.append(1), lower(use, rule))[1]
        first, second = compile_rulesets([ruleset], 1), compile_rulesets([ruleset], 1)
        assert (len(seen), first.block) == (1, second.block)
        use.ext.lasting = False
        use.lowered = None
        compile_rulesets([ruleset])
        compile_rulesets([ruleset])
        assert len(seen) == 3
    finally:
        del use.ext.lower, use.ext.lasting


def test_state_is_aligned_whatever_lies_before_it():
    """A CT rule keeps four bytes (found by UBSan: the limit behind it swapped a word across its boundary)."""
    text = "*raw\n:PREROUTING ACCEPT [0:0]\n" + "-A PREROUTING -j CT --zone 1\n-A PREROUTING -m limit --limit 1/s -j ACCEPT\n" * 3 + "COMMIT\n"
    program = compile_rulesets([load(text, "rules", 2)])
    assert [size for _, _, size in program.states] == [4, 8] * 3
    assert [offset % 8 for _, offset, _ in program.states] == [0] * 6 and len(program.state_image) == 48


def test_every_rule_that_cannot_be_evaluated_is_named():
    with pytest.raises(RuleErrors) as caught:
        program_of("-p tcp --dport 80 -j ACCEPT", "-m ipvs --ipvs -j DROP", "-j ACCEPT", "-m ipvs --ipvs -m ipvs --ipvs")
    assert [error.span.line for error in caught.value.errors] == [6, 8, 8]
    assert {error.message.partition(":")[0] for error in caught.value.errors} == {"not possible"}
