"""Planted bugs: what a harness that is worth something must notice.

Each is an edit of a *copy* of the source, switched on by NFQFW_MUTATION=number in a build of its own: the product has no
mutation points.  When an edited line is no longer there, the test says so: the table is kept with the source.
"""

from typing import NamedTuple

MUTATED = '''"""mutated(n): whether planted bug n is on; in the copy that the mutation test builds, and nowhere else.  Header-only."""

cdef extern from *:
    """
    #include <stdlib.h>
    static int nfqfw_mutation = -1;
    static int nfqfw_mutated(int n) {
        if (nfqfw_mutation < 0) { const char *s = getenv("NFQFW_MUTATION"); nfqfw_mutation = s ? atoi(s) : 0; }
        return nfqfw_mutation == n;
    }
    """
    bint mutated "nfqfw_mutated"(int n) noexcept nogil
'''
IMPORT = "from nfqfw._mutated cimport mutated\n"


class Mutation(NamedTuple):
    name: str
    file: str
    old: str
    new: str            # {n} is the mutation's number


MUTATIONS = (
    Mutation("a swapped comparison: the last port of a range is out", "nfqfw/ext/m_udp.pxd",
             "info.dport[0] <= p.dport <= info.dport[1]",
             "info.dport[0] <= p.dport and (p.dport < info.dport[1] if mutated({n}) else p.dport <= info.dport[1])"),
    Mutation("the policy's counter is not bumped", "nfqfw/_fastpath.pyx",
             "    count(c, w.chains[w.base].policy_counter, p)\n",
             "    if not mutated({n}):\n        count(c, w.chains[w.base].policy_counter, p)\n"),
    Mutation("RETURN in a base chain goes on with the next rule", "nfqfw/_fastpath.pyx",
             "            if not leave(c, p, &w):\n                return policy(c, p, &w)\n        else:",
             "            if mutated({n}) and w.depth == 0:\n                w.at += 1\n"
             "            elif not leave(c, p, &w):\n                return policy(c, p, &w)\n        else:"),
    Mutation("goto is treated as a jump", "nfqfw/_fastpath.pyx",
             "    if rule.target == TARGET_JUMP:\n        if w.depth",
             "    if rule.target == TARGET_JUMP or mutated({n}):\n        if w.depth"),
    Mutation("! -i is ignored", "nfqfw/ext/rule.pxd",
             "    return same_interface(c.iif, info)\n",
             "    return same_interface(c.iif, info) ^ (mutated({n}) and info.invert != 0)\n"),
    Mutation("NEW for INVALID", "nfqfw/ext/m_conntrack.pxd",
             "    return STATE_UNTRACKED if p.ctinfo == CT_UNTRACKED else STATE_INVALID\n",
             "    return STATE_UNTRACKED if p.ctinfo == CT_UNTRACKED else STATE_NEW if mutated({n}) else STATE_INVALID\n"),
    Mutation("MARK sets bits outside its mask", "nfqfw/ext/t_MARK.pxd",
             "    p.mark = (p.mark & ~info.mask) ^ info.value\n",
             "    p.mark = info.value if mutated({n}) else (p.mark & ~info.mask) ^ info.value\n"),
    Mutation("limit lets one packet more through: any credit will do", "nfqfw/ext/m_limit.pxd",
             "        passed = credit >= info.cost\n        if passed:\n            credit -= info.cost\n",
             "        passed = credit >= (1 if mutated({n}) else info.cost)\n        if passed:\n"
             "            credit -= info.cost if credit > info.cost else credit\n"),
    Mutation("a time-out policy is not looked at", "nfqfw/conntrack/track.pxd",
             "        if policy.length and policy.first == first:\n",
             "        if policy.length and policy.first == first and not mutated({n}):\n"),
    Mutation("an ICMP error is RELATED whoever it goes to", "nfqfw/_conntrack.pyx",
             "    if i == 0 or not goes_to(p, a):\n",
             "    if i == 0 or not (goes_to(p, a) or mutated({n})):\n"),
    Mutation("a hotdrop is only a rule that does not match", "nfqfw/_fastpath.pyx",
             "            if c.hotdrop:\n                return OUTCOME_HOTDROP\n",
             "            if c.hotdrop and not mutated({n}):\n                return OUTCOME_HOTDROP\n            c.hotdrop = 0\n"),
    Mutation("a reply does not make a connection answered", "nfqfw/_conntrack.pyx",
             "        or32(&hot.status, SEEN_REPLY)\n",
             "        or32(&hot.status, 0 if mutated({n}) else SEEN_REPLY)\n"),
    Mutation("REJECT with a RST leaves the connection as it is", "nfqfw/_pipeline.pyx",
             "        conntrack_close(e.conntrack, p.conn, e.c.now)\n",
             "        if not mutated({n}):\n            conntrack_close(e.conntrack, p.conn, e.c.now)\n"),
)
