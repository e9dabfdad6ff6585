"""The matcher: walks the chains of a Program over a Packet.

Overview.  `run_chain` starts at a built-in chain and ends with the verdict of its table.  The order of everything is the
kernel's (spec/iptables.md 4.1): the rule's own tests, then matches from left to right, stop at the first that is false; a
matching rule counts before its target acts; RETURN from a built-in chain, like its end, meets the policy, which counts
too; a goto is a jump that leaves nothing on the stack.  A hotdrop ends it all and counts nothing.

One switch over `enum Op` calls the inline tests of ext/*.pxd, another over `enum Action` the actions; there is no
extension module per match.  Everything here is `noexcept nogil`, and trusts the Program: compile.py has validated it.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from nfqfw._atomic cimport prefetch, prefetch_read
from nfqfw._classify cimport (CUTS_ROOM, LEAF, NO_RULE, TREES, TREES_ROOM, Cursors, IndexHeader, TreeNode, cursors_for, cursors_open, index_next,
                              index_open, indexable, packet_classes, packet_fields, tree_nodes)
from nfqfw._host cimport Interface, interface_by_index
from nfqfw._ops cimport *
from nfqfw._packet cimport ACCEPT, BAD_IP, DIRTY_PAYLOAD, DROP, INPUT, OUTPUT, PREROUTING, QUEUE, Packet
from nfqfw._paths cimport READS_PACKET, READS_TCP_FLAGS, tape_op
from nfqfw._program cimport (NAT, NO_CHAIN, TABLES, TARGET_ACCEPT, TARGET_DROP, TARGET_EXT, TARGET_GOTO, TARGET_JUMP, TARGET_NONE,
                             TARGET_QUEUE, TARGET_RETURN, ChainRow, Context, RuleRow, Run, TestRow, chain_rows, chain_runs,
                             family_index)
from nfqfw._record cimport trace
from nfqfw._trace cimport (NO_TEST, TRACE_GOTO, TRACE_JUMP, TRACE_MATCH, TRACE_MISS, TRACE_POLICY, TRACE_RETURN, TRACE_STEP,
                           TRACE_VERDICT)
from nfqfw.ext._dispatch cimport act, holds


cdef TreeNode NOWHERE           # an empty leaf: where a packet is that no part of a node has room for
NOWHERE.field = LEAF


cdef struct Walk:               # where in the ruleset a packet is
    const ChainRow* chains
    uint32_t base               # the built-in chain that was entered
    uint32_t chain
    uint32_t at                 # rule row
    uint32_t end                # behind the last rule of the chain, or of the run of an edited one
    uint32_t depth              # entries on the jump stack
    const Run* run              # the next one of an edited chain
    const Run* last             # behind the last one
    const IndexHeader* opened   # index of the chain at hand whose cursors stand open, NULL = it has none
    const IndexHeader* index    # the same where it knows the rules at hand, NULL = walk them one by one
    Cursors cursors


cdef inline void count(Context* c, uint32_t counter, const Packet* p) noexcept nogil:
    c.counters[counter].packets += 1
    c.counters[counter].bytes += p.total
    if c.tape != NULL:
        tape_op(c.tape, counter)


cdef inline void open_index(Context* c, const Packet* p, Walk* w) noexcept nogil:
    """Cursors of the chain at hand: those that look_ahead found, or new ones."""
    cdef const Ahead* ahead = <const Ahead*>c.ahead
    if ahead == NULL or ahead.index != w.opened or ahead.packet != p or p.dirty & DIRTY_PAYLOAD:
        index_open(w.opened, p, c.iif, c.oif, &w.cursors)
        return
    w.cursors = ahead.cursors
    w.cursors.classes = packet_classes(p)


cdef inline void next_run(Walk* w) noexcept nogil:
    """Take up the next run of an edited chain.  Those that the index knows come in its order, so its cursors stay good."""
    w.at = w.run.first
    w.end = w.at + w.run.n
    w.index = w.opened if w.run.indexed else NULL
    w.run += 1


cdef inline void run_of(Walk* w, uint32_t rule) noexcept nogil:
    """Take up the run that a rule of the edited chain at hand is in."""
    while w.run != w.last and rule - w.run[-1].first >= w.run[-1].n:
        next_run(w)


cdef inline void go_to(Context* c, const Packet* p, Walk* w, uint32_t chain) noexcept nogil:
    w.chain = chain
    w.at = w.chains[chain].first_rule
    w.end = w.at + w.chains[chain].n_rules
    w.opened = w.index = NULL
    if w.chains[chain].index and not p.trace and indexable(p):      # a traced packet tells of every rule
        w.opened = w.index = <const IndexHeader*>(c.data + w.chains[chain].index)
        open_index(c, p, w)
        if c.tape != NULL and w.index.flags:
            c.tape.reads |= READS_TCP_FLAGS
    w.run = w.last = NULL
    if w.chains[chain].n_runs:
        w.run = chain_runs(c.program, &w.chains[chain])
        w.last = w.run + w.chains[chain].n_runs
        next_run(w)


cdef inline void candidate(Walk* w) noexcept nogil:
    """Go on to the next rule that can match."""
    cdef uint32_t rule = index_next(&w.cursors, w.at)
    w.at = rule if rule < w.end else w.end


cdef inline bint matches(Context* c, Packet* p, const Walk* w, const RuleRow* rule) noexcept nogil:
    """True when every test of the rule holds; then it has counted.  False with c.hotdrop set: the packet is lost."""
    cdef const TestRow* tests = c.tests + rule.first_test
    cdef uint32_t i
    for i in range(rule.n_tests):
        if c.tape != NULL:
            c.tape.reads |= tests[i].flags
        if not holds(c, p, &tests[i]):
            if p.trace:
                trace(c, p, TRACE_MISS, w.chain, w.at, NO_TEST if c.hotdrop else rule.first_test + i, c.hotdrop)
            return False
    count(c, rule.counter, p)
    if p.trace:
        trace(c, p, TRACE_MATCH, w.chain, w.at, NO_TEST, rule.target)
    return True


cdef inline bint enter(Context* c, Packet* p, Walk* w, const RuleRow* rule) noexcept nogil:
    """Jump or goto.  False: the jump stack is full."""
    if rule.target == TARGET_JUMP:
        if w.depth >= c.program.stack_depth:
            return False
        c.stack[2 * w.depth] = w.chain
        c.stack[2 * w.depth + 1] = w.at + 1
        w.depth += 1
    if p.trace:
        trace(c, p, TRACE_JUMP if rule.target == TARGET_JUMP else TRACE_GOTO, w.chain, w.at, NO_TEST, rule.target_arg)
    go_to(c, p, w, rule.target_arg)
    return True


cdef inline bint leave(Context* c, Packet* p, Walk* w) noexcept nogil:
    """RETURN, or the end of a chain: go on behind the last jump.  False: there was none, the policy decides."""
    if w.depth == 0:
        return False
    w.depth -= 1
    go_to(c, p, w, c.stack[2 * w.depth])
    if w.last != NULL:
        run_of(w, c.stack[2 * w.depth + 1] - 1)
    w.at = c.stack[2 * w.depth + 1]
    if p.trace:
        trace(c, p, TRACE_RETURN, w.chain, NO_CHAIN, NO_TEST, 0)
    return True


cdef inline uint32_t policy(Context* c, Packet* p, const Walk* w) noexcept nogil:
    """The built-in chain's last word; it counts as a rule does."""
    count(c, w.chains[w.base].policy_counter, p)
    if p.trace:
        trace(c, p, TRACE_POLICY, w.base, NO_CHAIN, NO_TEST, w.chains[w.base].policy)
    return w.chains[w.base].policy


cdef inline uint32_t aim(Context* c, Packet* p, const Walk* w, const RuleRow* rule) noexcept nogil:
    """Carry out a target that is no chain: CONTINUE, a Verdict or an Outcome."""
    cdef uint32_t outcome, connmark = 0
    if c.tape != NULL:
        c.tape.reads |= rule.flags
        connmark = c.conns.hot[p.conn].mark
    if rule.target >= TARGET_EXT:
        c.rule = w.at
        outcome = act(c, p, rule.target - TARGET_EXT, rule.target_arg)
        if c.tape != NULL and c.conns.hot[p.conn].mark != connmark:
            c.tape.reads |= READS_PACKET    # a change is an event, even where a later rule takes it back
        if outcome == CONTINUE:
            return CONTINUE
    else:
        outcome = ACCEPT if rule.target == TARGET_ACCEPT else DROP if rule.target == TARGET_DROP else QUEUE
    if p.trace:
        trace(c, p, TRACE_VERDICT, w.chain, w.at, NO_TEST, outcome)
    return outcome


cdef uint32_t run_chain(Context* c, Packet* p, uint32_t chain) noexcept nogil:
    """Verdict of a built-in chain over p: a Verdict or an Outcome.  c.table and c.hook say where we are."""
    cdef const RuleRow* rule
    cdef uint32_t outcome
    cdef Walk w
    w.chains = chain_rows(c.program)
    w.base = chain
    w.depth = 0
    go_to(c, p, &w, chain)
    if p.trace:
        trace(c, p, TRACE_STEP, chain, NO_CHAIN, NO_TEST, 0)
    while True:
        if w.index != NULL:
            candidate(&w)
        if w.at >= w.end:
            if w.run != w.last:
                next_run(&w)
                continue
            if leave(c, p, &w):
                continue
            return policy(c, p, &w)
        rule = &c.rules[w.at]
        if not matches(c, p, &w, rule):
            if c.hotdrop:
                return OUTCOME_HOTDROP
            w.at += 1
        elif c.hotdrop:                         # an inverted match on a malformed packet: it counted, and goes no further
            return OUTCOME_HOTDROP
        elif rule.target == TARGET_NONE:
            w.at += 1
        elif rule.target == TARGET_JUMP or rule.target == TARGET_GOTO:
            if not enter(c, p, &w, rule):
                return OUTCOME_STACK
        elif rule.target == TARGET_RETURN:
            if not leave(c, p, &w):
                return policy(c, p, &w)
        else:
            outcome = aim(c, p, &w, rule)
            if outcome != CONTINUE:
                return outcome
            w.at += 1
            if w.opened != NULL:                # the target may have changed what the lists were chosen by
                index_open(w.opened, p, c.iif, c.oif, &w.cursors)


# ---- a batch ahead -------------------------------------------------------------------------------------------------------
#
# What a packet meets in a large chain lies in lines that no cache holds: nodes of the trees, entries, the rule, its tests, their
# infos, its counter, each known only when the one before it has come.  So they are asked for step by step for a whole batch.

cdef inline const IndexHeader* large_index(const Context* c, const Packet* p) noexcept nogil:
    """Index of the first large chain that p's hook begins with; NULL = none."""
    cdef uint32_t table, chain
    cdef const ChainRow* row
    for table in range(TABLES):
        chain = c.program.base[family_index(p.family)][table][p.hook]
        if chain == NO_CHAIN or table == NAT:           # which only a connection's first packet asks
            continue
        row = &chain_rows(c.program)[chain]
        if row.index and row.n_rules >= c.program.large:
            return <const IndexHeader*>(c.data + row.index)
    return NULL


cdef void look_ahead(Context* c, const Packet* packets, uint32_t n, Ahead* ahead) noexcept nogil:
    """Find what the large chains have for the first n packets, at most AHEAD_MAX, where ahead[].wanted."""
    cdef uint32_t values[AHEAD_MAX][CUTS_ROOM]
    cdef const TreeNode* at[AHEAD_MAX][TREES_ROOM]
    cdef uint16_t going[AHEAD_MAX * TREES_ROOM]
    cdef uint32_t i, tree, n_going = 0
    cdef const Packet* p
    cdef const IndexHeader* index
    for i in range(n):
        p = &packets[i]
        index = large_index(c, p) if ahead[i].wanted and not p.flags & BAD_IP and not p.trace and indexable(p) else NULL
        ahead[i].index = index
        if index == NULL:
            continue
        ahead[i].packet = p
        values[i][CUTS_ROOM - 1] = 0
        packet_fields(index, p, NULL if p.hook == OUTPUT or not index.interfaces else interface_by_index(c.host, p.ifin),
                      NULL if p.hook == PREROUTING or p.hook == INPUT or not index.interfaces else interface_by_index(c.host, p.ifout), values[i])
        for tree in range(TREES):
            at[i][tree] = tree_nodes(index) + tree
            going[n_going] = <uint16_t>(i * TREES_ROOM + tree)
            n_going += 1
    while n_going:                                      # one level of all trees of all packets
        n_going = descend(going, n_going, &at[0][0], &values[0][0], ahead)
    for i in range(n):
        if ahead[i].index != NULL:
            cursors_open(ahead[i].index, &ahead[i].cursors, at[i])
            cursors_for(ahead[i].index, &ahead[i].cursors, packets[i].proto, 0, values[i])
    ask_for_rules(c, n, ahead)


cdef inline uint32_t descend(uint16_t* going, uint32_t n, const TreeNode** at, const uint32_t* values, const Ahead* ahead) noexcept nogil:
    """One level down in each of n trees (packet * TREES_ROOM + tree); how many go on.

    How deep a packet's way is in a tree is chance to the processor, and a wrong guess costs it more than a level: no branches.
    """
    cdef uint32_t k, part, m = 0, packet
    cdef uint64_t inside, leaf
    cdef const TreeNode* node
    cdef const TreeNode* after
    for k in range(n):
        node = at[going[k]]
        packet = going[k] // TREES_ROOM
        part = (values[packet * CUTS_ROOM + (node.field & (CUTS_ROOM - 1))] - node.base) >> node.shift
        leaf = node.field == LEAF
        inside = (part < node.n) & (1 - leaf)
        after = tree_nodes(ahead[packet].index) + node.first + part
        node = <const TreeNode*>((<uint64_t>after & (0 - inside)) | (<uint64_t>node & (0 - leaf)) | (<uint64_t>&NOWHERE & (inside + leaf - 1)))
        at[going[k]] = node
        prefetch_read(node)                             # never what is not in the TLB: asking for that is dear
        going[m] = going[k]
        m += <uint32_t>inside
    return m


cdef void ask_for_rules(const Context* c, uint32_t n, Ahead* ahead) noexcept nogil:
    """The rule that each packet may match first, then its tests and counter, then their infos."""
    cdef uint32_t rule[AHEAD_MAX]
    cdef uint32_t i, k
    cdef const RuleRow* row
    for i in range(n):
        rule[i] = index_next(&ahead[i].cursors, 0) if ahead[i].index != NULL else NO_RULE
        if rule[i] != NO_RULE:
            prefetch_read(&c.rules[rule[i]])
            prefetch_read(&c.rules[rule[i]].flags)
    for i in range(n):
        if rule[i] != NO_RULE:
            row = &c.rules[rule[i]]
            prefetch(&c.counters[row.counter])
            prefetch_read(&c.tests[row.first_test])
            prefetch_read(&c.tests[row.first_test + row.n_tests])
    for i in range(n):
        if rule[i] != NO_RULE:
            row = &c.rules[rule[i]]
            for k in range(row.n_tests):
                prefetch_read(c.data + c.tests[row.first_test + k].info)
