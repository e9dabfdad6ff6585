"""The matcher: walks the chains of a Program over a Packet.

Overview.  `run_chain` starts at a built-in chain and ends with the verdict of its table.  The order of everything is the
kernel's (spec/iptables.md 4.1): the rule's own tests, then matches from left to right, stop at the first that is false; a
matching rule counts before its target acts; RETURN from a built-in chain, like its end, meets the policy, which counts
too; a goto is a jump that leaves nothing on the stack.  A hotdrop ends it all and counts nothing.

One switch over `enum Op` calls the inline tests of ext/*.pxd, another over `enum Action` the actions; there is no
extension module per match.  Everything here is `noexcept nogil`, and trusts the Program: compile.py has validated it.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from nfqfw._ops cimport *
from nfqfw._packet cimport ACCEPT, DROP, QUEUE, Packet
from nfqfw._program cimport (NO_CHAIN, TARGET_ACCEPT, TARGET_DROP, TARGET_EXT, TARGET_GOTO, TARGET_JUMP, TARGET_NONE,
                             TARGET_QUEUE, TARGET_RETURN, ChainRow, Context, RuleRow, TestRow, chain_rows, rule_rows, test_rows)
from nfqfw._record cimport trace
from nfqfw._trace cimport (NO_TEST, TRACE_GOTO, TRACE_JUMP, TRACE_MATCH, TRACE_MISS, TRACE_POLICY, TRACE_RETURN, TRACE_STEP,
                           TRACE_VERDICT)
from nfqfw.ext._dispatch cimport act, holds


cdef inline uint32_t first_false(Context* c, Packet* p, const RuleRow* rule) noexcept nogil:
    """Number of tests of the rule that held before one failed; rule.n_tests when all held."""
    cdef const TestRow* tests = test_rows(c.program) + rule.first_test
    cdef uint32_t i
    for i in range(rule.n_tests):
        if not holds(c, p, &tests[i]):
            return i
    return rule.n_tests


cdef inline void count(Context* c, uint32_t counter, const Packet* p) noexcept nogil:
    c.counters[counter].packets += 1
    c.counters[counter].bytes += p.total


cdef uint32_t run_chain(Context* c, Packet* p, uint32_t chain) noexcept nogil:
    """Verdict of a built-in chain over p: a Verdict or an Outcome.  c.table and c.hook say where we are."""
    cdef const ChainRow* chains = chain_rows(c.program)
    cdef const RuleRow* rules = rule_rows(c.program)
    cdef const RuleRow* rule
    cdef uint32_t base = chain, depth = 0, at, end, held, outcome, target
    at = chains[chain].first_rule
    end = at + chains[chain].n_rules
    if p.trace:
        trace(c, p, TRACE_STEP, chain, NO_CHAIN, NO_TEST, 0)
    while True:
        if at >= end:
            outcome = TARGET_RETURN
        else:
            rule = &rules[at]
            held = first_false(c, p, rule)
            if held < rule.n_tests:
                if p.trace:
                    trace(c, p, TRACE_MISS, chain, at, NO_TEST if c.hotdrop else rule.first_test + held, c.hotdrop)
                if c.hotdrop:
                    return OUTCOME_HOTDROP
                at += 1
                continue
            count(c, rule.counter, p)
            if p.trace:
                trace(c, p, TRACE_MATCH, chain, at, NO_TEST, rule.target)
            target = rule.target
            if target == TARGET_NONE:
                at += 1
                continue
            if target == TARGET_JUMP or target == TARGET_GOTO:
                if target == TARGET_JUMP:
                    if depth >= c.program.stack_depth:
                        return OUTCOME_STACK
                    c.stack[2 * depth] = chain
                    c.stack[2 * depth + 1] = at + 1
                    depth += 1
                if p.trace:
                    trace(c, p, TRACE_JUMP if target == TARGET_JUMP else TRACE_GOTO, chain, at, NO_TEST, rule.target_arg)
                chain = rule.target_arg
                at = chains[chain].first_rule
                end = at + chains[chain].n_rules
                continue
            if target >= TARGET_EXT:
                c.rule = at
                outcome = <uint32_t>act(c, p, target - TARGET_EXT, rule.target_arg)
                if outcome == CONTINUE:
                    at += 1
                    continue
                if p.trace:
                    trace(c, p, TRACE_VERDICT, chain, at, NO_TEST, outcome)
                return outcome
            outcome = target
        if outcome == TARGET_RETURN:
            if depth == 0:
                count(c, chains[base].policy_counter, p)
                if p.trace:
                    trace(c, p, TRACE_POLICY, base, NO_CHAIN, NO_TEST, chains[base].policy)
                return chains[base].policy
            depth -= 1
            chain = c.stack[2 * depth]
            at = c.stack[2 * depth + 1]
            end = chains[chain].first_rule + chains[chain].n_rules
            if p.trace:
                trace(c, p, TRACE_RETURN, chain, NO_CHAIN, NO_TEST, 0)
            continue
        outcome = ACCEPT if outcome == TARGET_ACCEPT else DROP if outcome == TARGET_DROP else QUEUE
        if p.trace:
            trace(c, p, TRACE_VERDICT, chain, at, NO_TEST, outcome)
        return outcome
