"""Time-out policies beside the real tools: what nfct says, which rules the kernel takes, what becomes of connections.

What each tracker does with a policy: flows/timeouts.flow.
"""

import re
import shlex
import shutil
import subprocess

import pytest

from nfqfw import testing
from nfqfw._conntrack import ConntrackTable
from nfqfw._engine import Engine, LoadedProgram
from nfqfw.compile import compile_rulesets
from nfqfw.conntrack import nfct
from nfqfw.conntrack._policies import TimeoutPolicies
from nfqfw.conntrack.timeouts import TRACKERS, Policy, PolicyList
from nfqfw.delta import edit_program
from nfqfw.errors import NfqfwError
from nfqfw.ext import timeouts as names
from nfqfw.ext.timeouts import NAME_BYTES
from nfqfw.limits import POLICY_FILE_BYTES, TIMEOUT_POLICIES
from nfqfw.packets import INPUT, PREROUTING, PacketIn
from nfqfw.rules import applet, load
from nfqfw.rules.store import MemoryStore
from nfqfw.selftest import kernel as twin
from nfqfw.selftest.case import Case
from nfqfw.selftest.flow import parse_flow
from nfqfw.selftest.ours import OurTwin
from nfqfw.selftest.outcome import Outcome
from tests.conntrack.packets import udp
from tests.engine.support import host_block

S = 10**9
netns = pytest.mark.netns
with_tools = pytest.mark.skipif(bool(twin.missing("conntrack", "nfct")), reason=f"kernel twin: {twin.missing('conntrack', 'nfct')}")

# ---- nfct beside nfct ----------------------------------------------------------------------------------------------------

LINES = r"""
nfct
nfct --help
nfct timeout
nfct timeout list
nfct timeout help
nfct list
nfct list timeout
nfct add timeout
nfct add timeout p1
nfct add timeout p1 inet
nfct add timeout p1 inet tcp
nfct add timeout p1 inet tcp established 100
nfct add timeout p1 inet tcp established 100
nfct add timeout p1 inet tcp
nfct add timeout p1 inet dccp request 3
nfct get timeout p1
nfct get timeout nope
nfct delete timeout nope
nfct add timeout p2 inet tcp established 100 close 10 foo 1
nfct add timeout p2 inet tcp established
nfct add timeout p2 inet tcp established 5 close
nfct add timeout p2 inet tcp ESTABLISHED 55 syn_sent 3 syn-sent 4
nfct add timeout p2 inet tcp established 55 Established 56
nfct add timeout p3 inet6 udp unreplied 10 replied 20
nfct add timeout p4 inet generic timeout 33
nfct add timeout p5 inet icmp timeout 33
nfct add timeout p6 inet6 icmpv6 timeout 33
nfct add timeout p7 inet sctp established 33
nfct add timeout p8 inet dccp established 33
nfct add timeout p8 inet dccp request 33
nfct add timeout p8 inet dccp
nfct add timeout p9 inet udplite unreplied 33
nfct add timeout p10 inet gre replied 33
nfct add timeout p11 inet ah timeout 33
nfct add timeout p11 inet ah
nfct add timeout p12 inet6 icmp timeout 33
nfct add timeout p13 inet icmpv6 timeout 33
nfct add timeout p14 ip tcp established 33
nfct add timeout p14 INET tcp established 33
nfct add timeout p14 inet UDP replied 3
nfct add timeout p15 inet foo established 33
nfct add timeout p15 inet 17 replied 33
nfct add timeout p15 inet Generic timeout 33
nfct add timeout p15 inet ipv6-icmp foo 33
nfct add timeout p15 inet gre timeout 33
nfct add timeout p16 inet tcp syn_sent 1 syn_recv 2 established 3 fin_wait 4 close_wait 5 last_ack 6 time_wait 7 close 8 syn_sent2 9 retrans 10 unacknowledged 11
nfct add timeout p17 inet6 sctp CLOSED 1 cookie_wait 2 cookie_echoed 3 established 4 shutdown_sent 5 shutdown_recd 6 shutdown_ack_sent 7
nfct add timeout p18 inet tcp listen 1
nfct add timeout p18 inet tcp unack 1
nfct add timeout p18 inet sctp heartbeat_sent 1
nfct list timeout
nfct timeout list
nfct list timeout extra
nfct get timeout
nfct get timeout p1 p2
nfct delete timeout
nfct delete timeout p1 p2
nfct delete timeout p1
nfct delete timeout p1
nfct list timeout
nfct timeout add p1 inet udp replied 7
nfct timeout get p1
nfct timeout delete p1
nfct flush timeout extra
nfct flush timeout
nfct list timeout
nfct add timeout thisnameis31characterslong_xxxx inet udp replied 1
nfct add timeout thisnameis32characterslong_xxxxx inet udp replied 1
nfct get timeout thisnameis32characterslong_xxxxx
nfct get timeout thisnameis32characterslong_xxxx
nfct delete timeout thisnameis32characterslong_xxxxxx
nfct add timeout "" inet udp replied 1
nfct get timeout ""
nfct add timeout "a b" inet udp replied 1
nfct del timeout "a b"
nfct li ti
nfct l t
nfct t l
nfct d t p1
nfct def t
nfct default-x timeout
nfct f timeout
nfct disable timeout
nfct di timeout x
nfct list queue
nfct list foo
nfct foo timeout
nfct t t
nfct v timeout
nfct version
nfct version list
nfct list version
nfct x version
nfct default-set timeout
nfct default-set timeout inet tcp
nfct default-set timeout inet tcp retrans
nfct default-set timeout inet tcp foo 1
nfct default-set timeout inet foo bar 3
nfct default-set timeout foo foo bar 3
nfct default-set timeout inet ah bar 3
nfct default-set timeout inet dccp request 3
nfct default-get timeout
nfct default-get timeout inet
nfct default-get timeout inet tcp foo
nfct default-get timeout inet foo
nfct default-get timeout foo tcp
nfct default-get timeout inet dccp
nfct default-get timeout inet ah
nfct default-set timeout inet tcp syn_sent2 3 close 4 unacknowledged 5 retrans 6 established 100
nfct default-set timeout inet udp replied 77
nfct default-set timeout inet6 udplite unreplied 66
nfct default-set timeout inet icmp timeout 79
nfct default-set timeout inet6 icmpv6 timeout 80
nfct default-set timeout inet gre replied 7 unreplied 8
nfct default-set timeout inet sctp established 7
nfct default-set timeout inet generic timeout 9
nfct add timeout later inet6 tcp last_ack 1
nfct get timeout later
""".strip().splitlines()
LINES += [f"nfct default-get timeout {family} {proto}" for family in ("inet", "inet6")
          for proto in ("tcp", "udp", "udplite", "icmp", "icmpv6", "gre", "sctp", "generic")]
NUMBERS = ("0x10", "010", "12abc", "abc", "-1", "4294967295", "4294967296", "2147483648", "17179869", "17179870", "99999999999999999999", "",
           " 5", "+5", "- 5", "1.5", "000000000000000000000000000007", "-99999999999999999999")
LINES += [line for value in NUMBERS for line in (f"nfct add timeout n inet udp replied '{value}'", "nfct get timeout n", "nfct delete timeout n")]


def in_a_namespace(script: list[str], lock) -> str:
    return subprocess.run(["unshare", "-n", "bash", "-c", "\n".join(script)], capture_output=True, text=True, timeout=120, check=False,
                          env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XTABLES_LOCKFILE": str(lock)}).stdout


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> list[str]:
    """What the real tool says to each of LINES, one after the other."""
    script = [part for line in LINES for part in ("echo @@", f"{line} 2>&1", "echo code $?")]
    return in_a_namespace(script, tmp_path_factory.mktemp("nfct") / "lock").split("@@\n")[1:]


@netns
@with_tools
@pytest.mark.parametrize("make", [PolicyList, lambda: TimeoutPolicies(ConntrackTable(100, 4096))], ids=["list", "table"])
def test_says_what_the_tool_says(said, make):
    policies = make()
    answers = []
    for line in LINES:
        result = nfct.run(shlex.split(line)[1:], policies)
        answers.append(f"{result.stdout}{result.stderr}code {result.code}\n")
    theirs = [answer.replace("Unknown subsystem: --help\n", "") for answer in said]
    assert len(theirs) == len(LINES)
    assert [(line, mine) for line, mine in zip(LINES, answers)] == list(zip(LINES, theirs))


# ---- rules ---------------------------------------------------------------------------------------------------------------

POLICIES = """
add timeout t4 inet tcp established 100
add timeout t6 inet6 tcp established 100
add timeout u4 inet udp replied 100
add timeout g4 inet generic timeout 50
add timeout l4 inet udplite replied 50
add timeout i4 inet icmp timeout 50
add timeout i6 inet6 icmpv6 timeout 50
"""
RULES = """
iptables -t raw -A PREROUTING -p tcp -j CT --timeout nope
iptables -t raw -A PREROUTING -p tcp -j CT --timeout t6
iptables -t raw -A PREROUTING -p tcp -j CT --timeout u4
iptables -t raw -A PREROUTING -p tcp -j CT --timeout g4
iptables -t raw -A PREROUTING -j CT --timeout g4
iptables -t raw -A PREROUTING -j CT --timeout nope
iptables -t raw -A PREROUTING ! -p tcp -j CT --timeout t4
iptables -t raw -A PREROUTING -p esp -j CT --timeout g4
iptables -t raw -A PREROUTING -p 254 -j CT --timeout g4
iptables -t raw -A PREROUTING -p dccp -j CT --timeout g4
iptables -t raw -A PREROUTING -p gre -j CT --timeout g4
iptables -t raw -A PREROUTING -p icmpv6 -j CT --timeout g4
iptables -t raw -A PREROUTING -p udp -j CT --timeout l4
iptables -t raw -A PREROUTING -p udplite -j CT --timeout u4
iptables -t raw -A PREROUTING -p tcp -j CT --timeout t4 --helper ftp
iptables -t raw -A PREROUTING -p tcp -j CT --timeout nope --helper ftp
iptables -t raw -A PREROUTING -p tcp -j CT --timeout u4 --helper ftp
iptables -t raw -A PREROUTING -p tcp -j CT --timeout t4 --helper nope
iptables -t raw -A PREROUTING -p tcp -j CT --timeout u4 --helper nope
iptables -t raw -A PREROUTING -p tcp -j CT --notrack --timeout nope
iptables -t raw -A PREROUTING -p tcp -j CT --notrack --timeout t4
iptables -t raw -A PREROUTING -j CT --notrack --helper nope
iptables -t raw -A PREROUTING -p tcp -j CT --timeout ""
iptables -t raw -A PREROUTING -p tcp -j CT --helper ""
iptables -t raw -A PREROUTING -p tcp -j CT --timeout t4 --zone 3
iptables -t raw -A OUTPUT -p tcp -j CT --timeout t4 --ctevents new
iptables -t filter -A INPUT -p tcp -j CT --timeout t4
ip6tables -t raw -A PREROUTING -p tcp -j CT --timeout t4
ip6tables -t raw -A PREROUTING -p tcp -j CT --timeout t6
ip6tables -t raw -A PREROUTING -p icmpv6 -j CT --timeout i6
ip6tables -t raw -A PREROUTING -p icmp -j CT --timeout i4
iptables -t raw -N sub
iptables -t raw -A sub -p tcp -j CT --timeout nope
iptables -t raw -A sub -p tcp -j CT --timeout t4
iptables -t raw -S
ip6tables -t raw -S
iptables -t raw -L
""".strip().splitlines()
RESTORES = (
    "*raw\n-A PREROUTING -p tcp -j CT --timeout t4\n-A PREROUTING -p tcp -j CT --timeout gone\nCOMMIT\n",
    "*raw\n-A PREROUTING -p tcp -j CT --timeout t4\n-A PREROUTING -p udp -j CT --timeout t4\nCOMMIT\n",
    "*raw\n-A PREROUTING -p tcp -j CT --timeout t4\nCOMMIT\n",
)


def policy_list() -> PolicyList:
    policies = PolicyList()
    nfct.load(POLICIES, "policies", policies)
    return policies


@netns
@with_tools
@pytest.mark.skipif(not shutil.which("iptables-legacy"), reason="needs iptables-legacy")
def test_rules_are_refused_as_the_kernel_refuses_them(tmp_path):
    script = [f"nfct {line}" for line in POLICIES.split("\n") if line]
    script += [part for line in RULES for part in ("echo @@", f"{line.replace('tables ', 'tables-legacy ', 1)} 2>&1", "echo code $?")]
    script += [part for text in RESTORES for part in ("echo @@", f"printf {shlex.quote(text)} | iptables-legacy-restore 2>&1", "echo code $?")]
    theirs = in_a_namespace(script, tmp_path / "lock").split("@@\n")[1:]
    store = MemoryStore()
    store.policies = policy_list()
    answers = []
    for argv, text in [(shlex.split(line), "") for line in RULES] + [(["iptables-restore"], text) for text in RESTORES]:
        result = applet.run(argv, store, lambda text=text: text)
        answers.append(f"{result.stdout}{result.stderr}code {result.code}\n")
    assert list(zip(RULES + list(RESTORES), answers)) == list(zip(RULES + list(RESTORES), theirs))


def test_without_known_policies_any_name_loads():
    """A ruleset that is only read: `nfqfw check`, a state file."""
    assert applet.run(shlex.split("iptables -t raw -A PREROUTING -p tcp -j CT --timeout any"), MemoryStore()).code == 0


def test_an_engine_takes_no_rule_whose_policy_is_not_there():
    program = compile_rulesets([load("*raw\n-A PREROUTING -p udp -j CT --timeout absent\nCOMMIT\n", "rules", 2)])
    table = ConntrackTable(100, 4096)
    engine = Engine(table, host_block())
    with pytest.raises(NfqfwError, match="absent"):
        engine.load(LoadedProgram(program))
    TimeoutPolicies(table).add(Policy("absent", 2, 17, (5, 6)))
    engine.load(LoadedProgram(program))


def test_an_edited_program_knows_which_policies_its_rules_name():
    store = MemoryStore()
    for line in ("-p udp -j CT --timeout one", "-p tcp -j CT --timeout two", "-p udp --dport 5 -j CT --timeout one"):
        applet.run(shlex.split(f"iptables -t raw -A OUTPUT {line}"), store)
    program = compile_rulesets([store.ruleset(2)], room_from=0)
    seen = [set(program.policies)]
    for line in ("-D OUTPUT 1", "-D OUTPUT 1", "-A OUTPUT -p gre -j CT --timeout three", "-D OUTPUT 1"):
        applet.run(shlex.split(f"iptables -t raw {line}"), store)
        edit = edit_program(program, [store.ruleset(2)], 2)
        program = edit.program
        seen.append(set(program.policies))
    assert seen == [{"one", "two"}, {"one", "two"}, {"one"}, {"one", "three"}, {"three"}]


# ---- connections ---------------------------------------------------------------------------------------------------------

BEGIN = """
+0 client udp 1
+0 client tcp S 100:101(0)
+0 server tcp S. 500:501(0) ack 101
+0 client tcp . 101:101(0) ack 501
+0 client C3>S0 proto 47 pay=00000800
"""
GO_ON = """
+0 client udp 1
+0 client tcp . 101:101(0) ack 501
+0 server S0>C3 proto 47 pay=00000800
"""
GIVEN = ["add timeout u $INET udp unreplied 1000", "add timeout t $INET tcp established 1500 syn_recv 5", "add timeout g $INET gre unreplied 2000"]
CASE_RULES = """*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p udp -j CT --timeout u
-A PREROUTING -p tcp -j CT --timeout t
-A PREROUTING -p gre -j CT --timeout g
COMMIT
"""


def left(connections) -> dict[int, int]:
    """Tens of seconds that each protocol's connection has left."""
    return {c.proto: -(-c.timeout // 10) for c in connections}


@netns
@with_tools
@pytest.mark.parametrize("family", [2, 10], ids=["v4", "v6"])
def test_what_becomes_of_connections_whose_policy_goes(family):
    """With the rules gone a policy can be deleted; connections keep the time they have, and the next packet gives the usual one: but GRE."""
    case, later = (parse_flow(text, "deleted")[family == 10] for text in (BEGIN, GO_ON))
    case = Case(family, CASE_RULES, case.steps, "deleted", {}, [p.replace("$INET", "inet6" if family == 10 else "inet") for p in GIVEN])
    seen = []
    with twin.KernelTwin() as kernel:
        with kernel.inside():
            kernel._policies(case.policies)
            kernel._restore(family, case.rules)
            for step in case.steps:
                kernel._step(case, step, Outcome())
            seen.append([left(kernel.ct.list())])
            assert "busy" in kernel._command("delete timeout t", "nfct")
            kernel._restore(family, "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"
                                    "-A INPUT -m conntrack --ctstate INVALID\nCOMMIT\n")
            for name in "utg":
                assert kernel._command(f"delete timeout {name}", "nfct") == "code 0"
            seen[0].append(left(kernel.ct.list()))
            for step in later.steps:
                kernel._step(case, step, Outcome())
            seen[0].append(left(kernel.ct.list()))
    with OurTwin(classes=True) as ours:
        ours.run(case)
        seen.append([left(ours.connections())])
        assert "busy" in nfct.run(["delete", "timeout", "t"], ours.policies, ours.loaded.program.policies).stderr
        ours.loaded = LoadedProgram(compile_rulesets([load("*filter\n-A INPUT -m conntrack --ctstate INVALID\nCOMMIT\n", "rules", family)]))
        ours.engine.load(ours.loaded)
        for name in "utg":
            assert nfct.run(["delete", "timeout", name], ours.policies, ours.loaded.program.policies).code == 0
        seen[1].append(left(ours.connections()))
        for step in later.steps:
            ours.now += 10**5
            ours._step(case, step, Outcome())
        seen[1].append(left(ours.connections()))
    assert seen[0] == seen[1]
    assert seen[0] == [{17: 100, 6: 150, 47: 200}, {17: 100, 6: 150, 47: 200}, {17: 3, 6: 43200, 47: 200}]


def firewall(table: ConntrackTable) -> Engine:
    """An engine whose rules give UDP connections the policy `kept`, and which sees PREROUTING and INPUT."""
    engine = Engine(table, host_block(), attached=3)
    loaded = LoadedProgram(compile_rulesets([load("*raw\n-A PREROUTING -p udp -j CT --timeout kept\nCOMMIT\n*filter\n"
                                                  "-A INPUT -m conntrack --ctstate NEW\nCOMMIT\n", "rules", 2)]))
    engine.load(loaded)
    return engine


def arrive(engine: Engine, sport: int, now: int) -> None:
    for hook in (PREROUTING, INPUT):
        engine.one(PacketIn(udp("10.0.1.2", sport, "10.0.1.1", 6), hook, 2, 0), now, 0)


def flow(table: ConntrackTable) -> Engine:
    """One connection with the policy `kept` of 500 s, made by a packet through an engine."""
    TimeoutPolicies(table).add(Policy("other", 2, 17, (5, 6)))
    TimeoutPolicies(table).add(Policy("kept", 2, 17, (500, 600)))
    engine = firewall(table)
    arrive(engine, 5, 1000 * S)
    assert seconds(table, 1000 * S) == 500
    return engine


def seconds(table: ConntrackTable, now: int) -> int:
    entry, = table.list(now_ns=now)
    return entry.timeout


def test_who_takes_over_finds_policies_and_who_has_them(monkeypatch):
    """Also in a process that has numbered other names before."""
    table = ConntrackTable(100, 4096)
    flow(table)
    monkeypatch.setattr(names, "NUMBERS", {"foreign": 1, "kept": 2, "other": 3})
    taken = ConntrackTable.attach(table.arena.fd)
    policies = TimeoutPolicies(taken)
    assert policies.list() == [Policy("other", 2, 17, (5, 6)), Policy("kept", 2, 17, (500, 600))]
    taken.process(udp("10.0.1.2", 5, "10.0.1.1", 6), 1100 * S)
    assert seconds(taken, 1100 * S) == 500
    arrive(firewall(taken), 7, 1100 * S)
    assert [e.timeout for e in taken.list(now_ns=1100 * S)] == [500, 500]
    policies.delete("kept")
    taken.process(udp("10.0.1.2", 5, "10.0.1.1", 6), 1200 * S)
    assert min(e.timeout for e in taken.list(now_ns=1200 * S)) == 30


def test_a_row_that_is_used_again_is_nobodys_but_its_own():
    table = ConntrackTable(100, 4096)
    flow(table)
    policies = TimeoutPolicies(table)
    policies.delete("kept")
    policies.add(Policy("new", 2, 17, (900, 900)))
    table.process(udp("10.0.1.2", 5, "10.0.1.1", 6), 1001 * S)
    assert seconds(table, 1001 * S) == 30
    assert [policy.name for policy in policies.list()] == ["other", "new"]


def test_a_half_written_or_half_deleted_row_goes_at_the_take_over():
    table = ConntrackTable(100, 4096)
    flow(table)
    policies = TimeoutPolicies(table)
    policies.tear("kept")
    taken = ConntrackTable.attach(table.arena.fd)
    assert [policy.name for policy in TimeoutPolicies(taken).list()] == ["other"]
    TimeoutPolicies(taken).add(Policy("new", 2, 17, (900, 900)))
    taken.process(udp("10.0.1.2", 5, "10.0.1.1", 6), 1001 * S)
    assert seconds(taken, 1001 * S) == 30


def test_a_policy_of_another_tracker_gives_nothing():
    """A row's times are read only by the tracker that they are for (no rule can bring the two together, a torn Arena could)."""
    table = ConntrackTable(100, 4096)
    TimeoutPolicies(table).add(Policy("kept", 2, 6, tuple(range(11))))
    arrive(firewall(table), 7, 1100 * S)
    assert seconds(table, 1100 * S) == 30


def test_there_is_room_for_so_many():
    policies = TimeoutPolicies(ConntrackTable(100, 4096))
    for number in range(TIMEOUT_POLICIES - 1):
        policies.add(Policy(f"p{number}", 2, 17, (1, 2)))
    refused = nfct.run(["add", "timeout", "more", "inet", "udp", "replied", "1"], policies)
    assert refused.stderr == "nfct v1.4.7: netlink error: Cannot allocate memory\n"
    assert nfct.run(["delete", "timeout", "p7"], policies).code == 0
    assert nfct.run(["add", "timeout", "more", "inet", "udp", "replied", "1"], policies).code == 0
    assert nfct.run(["flush", "timeout"], policies).code == 0 and policies.list() == []


# ---- files ---------------------------------------------------------------------------------------------------------------

def test_what_is_saved_loads_again():
    policies = policy_list()
    nfct.load("add timeout 'a b' inet tcp close 1\nadd timeout g inet gre replied 5\nadd timeout s inet6 sctp closed 2", "f", policies)
    again = PolicyList()
    nfct.load(nfct.run(["--save"], policies).stdout, "saved", again)
    assert again.list() == policies.list() and len(again.list()) == 10
    assert {policy.proto for policy in again.list()} == set(TRACKERS)


@pytest.mark.parametrize("name", ["two\nlines", "\n" * NAME_BYTES, "a\n'b\"#", " ", "\\n"])
def test_a_saved_name_is_the_same_name(name):
    """The tool takes any name; one with line ends goes on over several lines of a file."""
    policies, again = PolicyList(), PolicyList()
    for each in (name, "after"):
        assert nfct.run(["add", "timeout", each, "inet", "udp", "replied", "1"], policies).code == 0
    nfct.load(nfct.run(["--save"], policies).stdout, "saved", again)
    assert [policy.name for policy in again.list()] == [name, "after"]


def test_all_that_there_is_room_for_can_be_saved(tmp_path):
    """With the longest names, and the longest times that the kernel keeps; what nobody can have written by `--save` is refused by its length."""
    policies, again, path = PolicyList(), PolicyList(), tmp_path / "policies"
    for number in range(TIMEOUT_POLICIES - 1):
        policies.add(Policy(f"'{number:<{NAME_BYTES - 1}}", 10, 6, (17_179_868,) * 11))
    path.write_text(nfct.run(["--save"], policies).stdout)
    assert path.stat().st_size > 1_000_000
    nfct.load_file(path, again)
    assert again.list() == policies.list()
    path.write_text(path.read_text().ljust(POLICY_FILE_BYTES + 1, "\n"))
    with pytest.raises(NfqfwError, match=f"longer than {POLICY_FILE_BYTES} bytes"):
        nfct.load_file(path, PolicyList())


@pytest.mark.parametrize("text, message", [
    ("add timeout a inet tcp close 1\n  add timeout b inet tcp foo 1\n", r"f:2:3: nfct v1\.4\.7: Wrong state name: `foo' for protocol `tcp'"),
    ("# comment\nnfct frob timeout\n", "f:2:1: nfct v1.4.7: Unknown subsystem: frob; Usage"),
    ("add timeout 'a inet tcp close 1\n", "f:1:1: No closing quotation"),
    ("\n  add timeout 'a inet tcp close 1" + "\n" * 50 + "'\n", "f:2:3: No closing quotation"),
    ("add timeout a inet tcp close 1\nadd timeout a inet tcp close 1\n", "f:2:1: .*busy"),
])
def test_mistakes_of_a_file_are_named(text, message):
    with pytest.raises(NfqfwError, match=message):
        nfct.load(text, "f", PolicyList())


def test_a_ruleset_under_test_has_its_policies():
    rules = "*raw\n-A PREROUTING -p udp -j CT --timeout quick\nCOMMIT\n*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT\n" \
            "-A FORWARD -d 10.0.2.2 -m conntrack --ctstate NEW -j ACCEPT\nCOMMIT\n"
    for given, verdict in (("add timeout quick inet udp unreplied 5\n", "DROP"), ("add timeout quick inet udp unreplied 50\n", "ACCEPT")):
        firewall = testing.Firewall(rules, timeouts=given)
        assert firewall.send("udp", "10.0.1.2:7", "10.0.2.2:53").verdict == "ACCEPT"
        assert firewall.send("udp", "10.0.2.2:53", "10.0.1.2:7", after=6).verdict == verdict
    with pytest.raises(Exception, match=re.escape('No such timeout policy "quick"')):
        testing.Firewall(rules)
