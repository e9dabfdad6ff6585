"""What counts as a difference: the judge with twins that say what a test wants, and the one address that is not compared with real ones."""

import time
from dataclasses import replace

import pytest

from nfqfw.selftest import judge as judging
from nfqfw.selftest import kernel as kernel_module
from nfqfw.selftest import ours as ours_module
from nfqfw.selftest.case import Case, Step
from nfqfw.selftest.flow import parse_flow
from nfqfw.selftest.judge import Judge, unlike
from nfqfw.selftest.npt import without_quoted
from nfqfw.selftest.outcome import Connection, Emitted, Outcome
from nfqfw.selftest.packets import IPV4, IPV6, Packet

CERTAIN, CLOCK, DRAW = "-A FORWARD -j LOG", "-A FORWARD -m conntrack --ctexpire 1:29", "-A POSTROUTING -j MASQUERADE"
TICK, TOCK = Outcome(counters={("filter", "FORWARD"): [(1, 40)]}), Outcome(counters={("filter", "FORWARD"): [(0, 0)]})


class Twin:
    """Says the next of its Outcomes at each run, the last for ever; sleeps before as long as it is told to."""

    def __init__(self, *outcomes: Outcome, naps=()) -> None:
        self.outcomes, self.naps, self.asked = list(outcomes), list(naps), []

    def run(self, case: Case) -> Outcome:
        self.asked.append(case)
        if self.naps:
            time.sleep(self.naps.pop(0))
        return self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]


def case_with(rules: str) -> Case:
    return Case(IPV4, rules, [Step(0, "client", Packet(id=7))])


def judged(rules: str, kernel: Twin, ours: Twin, second: Twin | None = None) -> judging.Judgement:
    return Judge(kernel, second or Twin(TICK), ours).judge(case_with(rules))


def nat(port: int, ttl: int = 63, mark: int = 0) -> Outcome:
    """One packet of a connection that NAT gave this port."""
    connection = Connection(17, ("10.1.0.10", "10.2.0.10", 7, 9), ("10.2.0.10", "10.0.2.1", 9, port), 0x10, "", 30, mark, 0)
    return Outcome([[Emitted("server", bytes((0x45, ttl, *port.to_bytes(2, "big"))), 0)]], connections=[connection])


def test_equal_is_asked_once():
    kernel = Twin(TICK)
    assert judged(CERTAIN, kernel, Twin(TICK)) == judging.Judgement()
    assert len(kernel.asked) == 1


def test_a_case_without_chance_is_different_whatever_the_kernel_says_later():
    found = judged(CERTAIN, Twin(TICK, TOCK), Twin(TOCK))
    assert found.undecided == ""
    assert found.lines == ["counter filter FORWARD rule 1: kernel (1, 40), nfqfw (0, 0)", "asked again: equal 6 of 6 times"]


def test_the_edge_of_a_tick_is_undecided_once_the_kernel_gives_our_answer():
    assert judged(CLOCK, Twin(TICK, TICK, TOCK, TICK), Twin(TOCK)).undecided.startswith("clock: the kernel gave our answer 1 of 6")
    assert judged(CLOCK, Twin(TICK), Twin(TOCK)).undecided == ""


def ports(*numbers: int) -> list[Outcome]:
    return [nat(n) for n in numbers]


KERNEL, SECOND = (5001, 1030, 40002, 2003, 30004, 60005, 7006), (9007, 50008, 3009, 20010, 4011, 11012)


@pytest.mark.parametrize("ours, undecided", [(nat(1999), True), (nat(1999, ttl=64), False), (nat(1999, mark=5), False)],
                         ids=["port", "port and ttl", "port and connmark"])
def test_of_a_draw_only_what_is_drawn_may_differ(ours, undecided):
    found = judged(DRAW, Twin(*ports(*KERNEL)), Twin(ours), Twin(*ports(*SECOND)))
    assert bool(found.undecided) == undecided
    assert found.undecided.startswith("draw") == undecided


def test_where_two_kernels_agree_there_is_no_draw():
    assert judged(DRAW, Twin(nat(5001)), Twin(nat(5002)), Twin(nat(5001))).undecided == ""


def test_what_is_unlike_is_told_to_the_word():
    assert unlike(nat(0x1234), nat(0x1235)) == {(("packet", 1), 4), (("connection", 17, ("10.1.0.10", "10.2.0.10", 7, 9), 0), 7)}


def test_a_slow_run_is_repeated_with_other_ids(monkeypatch):
    monkeypatch.setattr(judging, "LONGEST", 0.05)
    kernel = Twin(TICK, TOCK, naps=[0.1])
    found = judged(CERTAIN, kernel, Twin(TOCK))
    assert (found.lines, found.slow) == ([], 1)
    assert kernel.asked[0].steps[0].packet.id != kernel.asked[1].steps[0].packet.id


# ---- what an ICMPv6 error quotes, behind SNPT and DNPT ----------------------------------------------------------------

LOCAL_ERROR = """
family 6
rules
*mangle
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -j SNPT --src-pfx 2001:db8:a::/64 --dst-pfx 2001:db8:ffff::/64
COMMIT
end
+0 local C2>S2 icmp port-unreachable id 0 seq 0 len 0 { S2:52>C2:22 udp 8 }
+0 client C2>S2 icmp port-unreachable id 0 seq 0 len 0 { S2:52>C2:22 udp 8 }
"""
QUOTED_DESTINATION = range(40 + 8 + 24, 40 + 8 + 40)


def test_only_the_translated_end_of_a_quoted_header_is_left_out():
    local, forwarded = (Emitted("server", bytes([0x60, 0, 0, 0, 0, 64, 58, 63]) + bytes(range(32)) + bytes([1]) + bytes(range(71)), 0),) * 2
    case = parse_flow(LOCAL_ERROR)[0]
    steps = without_quoted(case, [[local], [forwarded]])
    assert {i for i, (a, b) in enumerate(zip(local.data, steps[0][0].data, strict=True)) if a != b} == {*QUOTED_DESTINATION}
    assert steps[1] == [forwarded]
    assert without_quoted(replace(case, rules=""), [[local], [forwarded]]) == [[local], [forwarded]]
    assert case.family == IPV6


@pytest.mark.netns
@pytest.mark.skipif(bool(kernel_module.missing()), reason=f"kernel twin: {kernel_module.missing()}")
def test_linux_leaves_the_quoted_header_of_an_error_from_a_raw_socket(monkeypatch):
    """A named difference; in what is forwarded both translate it."""
    for module in (kernel_module, ours_module):
        monkeypatch.setattr(module, "without_quoted", lambda case, steps: steps)
    case = parse_flow(LOCAL_ERROR)[0]
    with kernel_module.KernelTwin() as kernel, ours_module.OurTwin() as ours:
        theirs, mine = kernel.run(case), ours.run(case)
    assert theirs.steps[1] == mine.steps[1] and len(mine.steps[1]) == 1
    (kernels,), (our,) = theirs.steps[0], mine.steps[0]
    unlike_at = {i for i, (a, b) in enumerate(zip(kernels.data, our.data, strict=True)) if a != b}
    assert unlike_at and unlike_at <= {*QUOTED_DESTINATION}
