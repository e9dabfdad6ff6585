"""The conntrack command beside the real conntrack 1.4.7: the same command lines, the same text, streams and exit codes.

Both start from an empty table; every line is run on both in turn.  Differences that are no differences: the order in which a
hash table lists entries, ids, and a second more or less of time.
"""

import os
import re
import shutil
import subprocess
import time

import pytest

from nfqfw._conntrack import ConntrackTable
from nfqfw.conntrack.command import run

REAL = shutil.which("conntrack", path="/usr/sbin:/usr/bin:/sbin:/bin")
pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0 or not REAL, reason="needs root and the real conntrack")]

def lines(text: str) -> list[str]:
    return [line for line in text.strip().splitlines()]


END = "::end"
ONE = "-s 1.1.1.1 -d 2.2.2.2"
LIFE = f"""
-I -p tcp {ONE} --sport 10 --dport 20 --state ESTABLISHED -u ASSURED,SEEN_REPLY -t 100 -m 7
-I -p udp {ONE} --sport 10 --dport 20 -t 50
-I -p udp {ONE} --sport 11 --dport 20 -t 50 -w 5
-I -p udp {ONE} --sport 12 --dport 20 -t 50 --orig-zone 6
-I -p udp {ONE} --sport 13 --dport 20 -t 50 --reply-zone 6 -u SEEN_REPLY
-I -p icmp {ONE} --icmp-type 8 --icmp-code 0 --icmp-id 5 -t 50
-I -p icmpv6 -s ::1 -d ::2 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 5 -t 50
-I -p gre {ONE} --srckey 1 --dstkey 2 -t 50
-I -p sctp {ONE} --sport 10 --dport 20 --state ESTABLISHED -t 50 --orig-vtag 1 --reply-vtag 2
-I -p udplite {ONE} --sport 10 --dport 20 -t 50
-I -p 89 {ONE} -t 50
-I -p tcp {ONE} -r 2.2.2.2 -q 3.3.3.3 --sport 10 --dport 21 --reply-port-src 21 --reply-port-dst 99 --state SYN_SENT -t 50
-I -p tcp {ONE} --sport 10 --dport 22 --state SYN_SENT -t 50 -g 9.9.9.9:88
-I -p tcp {ONE} --sport 10 --dport 23 --state LISTEN -t 50 -n 9.9.9.9
-I -p udp -s 2001:db8::1 -d 2001:db8::2 --sport 10 --dport 20 -t 70
-I -p tcp -r 1.1.1.1 -q 2.2.2.2 -t 50 --state CLOSE_WAIT --reply-port-src 31 --reply-port-dst 32
-L
-L -o extended
-L -o id
-L -o save
-L -o xml
-L -o xml,extended
-L -o save,id
-L -p tcp
-L -n
-L -g
-L -j
-L -n 9.9.9.9
-L -g 9.9.9.9:88
-L -g 9.9.9.9:89
-L -j 3.3.3.3
-L {ONE} -p udp --sport 10
-L -m 7
-L -m 5/5
-L -m 0 -p udp
-L -u ASSURED
-L -u UNREPLIED
-L -u SEEN_REPLY -p udp
-L -w 5
-L -w 0
-L --orig-zone 6
-L --reply-zone 6
-L -s 1.1.1.0/24 -p icmp
-L --mask-src 255.0.0.0 -s 1.9.9.9 -p icmp
-L -f ipv6
-L -f ipv4 -p icmp
-L -q 3.3.3.3
-L -r 9.9.9.9
-L -p tcp --reply-port-dst 99
-L -p tcp --state SYN_SENT
-L -p icmp --icmp-type 8
-L -p icmp --icmp-type 9
-L -s ::1/64
-L -s 1.2.3
-L --proto udp
-L --protonum=udp
-L -pudp
-L conntrack -p udp
--dump -p udp
-G -p udp {ONE} --sport 10 --dport 20
-G -p udp {ONE} --sport 10 --dport 29
-C
-U -p udp {ONE} --sport 10 --dport 20 -m 9
-U -p udp {ONE} --sport 10 --dport 20 -t 90
-U -p udp --dport 999 -m 1
-U -p icmp -u SEEN_REPLY
-U -p icmp {ONE} -u SEEN_REPLY
-L -p udp
-I -p udp {ONE} --sport 10 --dport 20 -t 50
-A -p udp {ONE} --sport 10 --dport 20 -t 50
-A -p udp {ONE} --sport 10 --dport 25 -t 50
-D -p udp --dport 999
-D -p udp --sport 10 -s 1.1.1.1 --dport 25
-D -s 7.7.7.7
-D -p icmp
-D -p tcp --state CLOSE_WAIT
-D -f ipv6
-L
-F
-L
-F
-L -o xml
-D
-U
"""
EXPECT = """
-L expect
-C expect
-F expect
-U expect
-I expect
-D expect
-G expect
-L expect -s 1.1.1.1
-A expect
-L expect -t 5
-L expect -p udp
-L expect -f ipv6
-L expect -o xml
-F expect -f ipv4
-E expect -e NEW
-E expect -o foo
-I expect -s 1.1.1.1
-I expect -s 1.1.1.1 -d 2.2.2.2
-I expect -s 1.1.1.1 -d 2.2.2.2 -p udp
-I expect -s 1.1.1.1 -d 2.2.2.2 -p udp -t 4
-G expect -s 1.1.1.1
-G expect -s 1.1.1.1 -d 2.2.2.2
-D expect -s 1.1.1.1 -d 2.2.2.2 -p 89 -w 1
-L -p udp --mask-port-src 1
-L -p gre --tuple-key-src 1
-L dying
-L unconfirmed
-F foo
"""
BOTH_ENDS = "-s 1.1.1.1 -d 2.2.2.2 -t 5 --tuple-src 1.1.1.1 --tuple-dst 2.2.2.2 --mask-src 1.1.1.1 --mask-dst 255.255.255.255"
EXPECT += "\n".join(
    [f"-I expect -p {proto} {BOTH_ENDS} {rest}" for proto in ("tcp", "udp", "udplite", "sctp") for rest in (
        "", "--sport 1", "--sport 1 --dport 2", "--sport 1 --dport 2 --mask-port-src 1", "--sport 1 --dport 2 --mask-port-src 1 --mask-port-dst 1",
        "--mask-port-src 1", "--sport 1 --dport 2 --mask-port-src 1 --mask-port-dst 1 --tuple-port-src 1", "--reply-port-src 1")]
    + [f"-I expect -p udp {BOTH_ENDS} --sport 1 --dport 2 --mask-port-src 1 --mask-port-dst 1 --tuple-port-src 1 --tuple-port-dst 1 {rest}"
       for rest in ("", "--reply-port-src 1", "-r 1.1.1.1", "-m 1", "-f ipv4", "-o xml", "-w 1", "-u ASSURED")]
    + [f"-{command} expect -p {proto} -s 1.1.1.1 -d 2.2.2.2 {rest}" for command in "GD" for proto in ("tcp", "gre", "icmp", "89") for rest in (
        "", "--sport 1", "--sport 1 --dport 2", "--sport 1 --dport 2 --reply-port-src 1", "--srckey 1", "--icmp-type 8",
        "--sport 1 --dport 2 --reply-port-src 1 --reply-port-dst 1", "--tuple-port-src 1")]
    + [f"-I expect -p gre {BOTH_ENDS} {rest}" for rest in (
        "", "--srckey 1 --dstkey 1", "--srckey 1 --dstkey 1 --reply-key-src 1 --reply-key-dst 1", "--sport 1",
        "--srckey 1 --dstkey 1 --reply-key-src 1 --reply-key-dst 1 --mask-key-src 1 --mask-key-dst 1")]
    + [f"-I expect -p 89 {BOTH_ENDS}", f"-I expect -p icmp {BOTH_ENDS}", f"-I expect -p icmp {BOTH_ENDS} --icmp-type 8"])
WRONG = f"""
-h
-V
--version
-X
-M
-R
-R /nonexistent
-L foo
-L -C
-L extra arg
-L --foo
-L -s
-L -e
--list -p udp
-I
-G
-I -p tcp -s 1.1.1.1
-I -p tcp {ONE} --sport 1 --dport 2 -t 5
-I -p tcp {ONE} --sport 1 --dport 2 -t 5 --state FOO
-I -p udp {ONE} --sport 1 --dport 2
-I -p udp {ONE} -t 5
-I -p udp {ONE} -t 5 --sport 4
-I -p udp -s 1.1.1.1 -t 5 --sport 4 --dport 5
-I -p icmp {ONE} -t 5
-I -p icmp {ONE} -t 5 --icmp-type 8
-I -p gre {ONE} -t 5
-I -p sctp {ONE} -t 5 --state ESTABLISHED
-U -p icmp {ONE} -t 5 -e NEW
-I -p foo
-I -p udp {ONE} --sport 1 --dport 3 -t 5 -u FOO
-I -p udp {ONE} --sport 1 --dport 3 -t 5 -u EXPECTED
-I -p udp -t 5 {ONE} --sport 4 --dport 5 -e NEW
-L -p foo
-L -p 300
-L -s a.b
-L -s 1.2.3.4 -d ::1
-L -s 1.1.1.1/33
-L -s 1.1.1.1/x
-L -s 1.1.1.1 -f ipv6
-L -f foo
-L --state FOO -p tcp
-L --state SYN_SENT
-L -p tcp --state FOO
-L -p tcp --icmp-type 4
-L --sport 4
-L -u FOO
-L -o foo
-L -e NEW
-L -t x
-L -b 5
-L -m x
-L -z -p tcp
-L --tuple-src 1.1.1.1
-L --mask-src 255.0.0.0
-L -n 1.2.3.4:70000
-L -n foo
-L -n 1.2.3.4 -s ::1
-L -o xml,save
-G -p udp -s 1.1.1.1
-G -p udp {ONE}
-G -p icmp {ONE}
-G -p tcp -u FOO
-G -p tcp -m 4
-F -p tcp
-C -p tcp
-S -p tcp
-D -z
-U -s 1.1.1.1 -w 4
-E -t 5
-E -u ASSURED
-E -e FOO
"""


def real(commands: list[str], settings: tuple[str, ...] = ()) -> list[tuple[str, str, int]]:
    """Every command line through the real tool, one namespace for all; --proc stands for the kernel's own listing."""
    script = [f"echo 1 > /proc/sys/net/netfilter/nf_conntrack_{name}" for name in settings]
    script = ["iptables-legacy -A INPUT -m conntrack --ctstate NEW", "ip6tables-legacy -A INPUT -m conntrack --ctstate NEW", *script]
    for command in commands:
        script += ["cat /proc/net/nf_conntrack" if command == "--proc" else f"conntrack {command} < /dev/null", f'echo "{END} $?"', f"echo {END} >&2"]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XTABLES_LOCKFILE": f"/run/nfqfw-test-{os.getpid()}.lock", "TZ": "UTC"}
    done = subprocess.run(["unshare", "-n", "sh", "-c", "\n".join(script)], capture_output=True, text=True, timeout=60,
                          env=environment, check=False)
    outs = re.split(rf"{END} (\d+)\n", done.stdout)
    errs = done.stderr.split(END + "\n")
    return [(outs[2 * n], errs[n], int(outs[2 * n + 1])) for n in range(len(commands))]


def normal(text: str) -> list[str]:
    """Lines in any order; ids and the time that has passed taken out."""
    text = re.sub(r"delta-time=\d", "delta-time=N", re.sub(r"\[start=\w+ \w+ +\d+ [\d:]+ \d+\]", "[start=T]", text))
    text = re.sub(r"<deltatime>\d", "<deltatime>N", text)
    text = re.sub(r"\bid=\d{5,}", "id=N", re.sub(r"<id>\d+</id>", "<id>N</id>", text))
    text = re.sub(r"(<timeout>|^(?:ipv[46] +\d+ )?\w+ +\d+ |-t )(\d+)", lambda m: m[1] + str(-(-int(m[2]) // 10) * 10), text, flags=re.M)
    return sorted(text.splitlines())


COUNTED = "\n".join(line for line in lines(LIFE) if line.startswith("-I") and "gre" not in line) + """
-L
-L -o extended,id
-L -o ktimestamp -p udp
-L -o xml
-L -o save
-L -z
--proc
-L -p tcp -o extended,ktimestamp,id
"""


@pytest.mark.parametrize("name, commands, settings", [
    ("life", LIFE, ()), ("expect", EXPECT, ()), ("wrong", WRONG, ()), ("counted", COUNTED, ("acct", "timestamp"))])
def test_same_words_as_the_real_tool(name, commands, settings, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    table = ConntrackTable(1000, 4096)
    for setting in settings:
        table.set("nf_conntrack_" + setting, 1)
    different = []
    for command, (stdout, stderr, code) in zip(lines(commands), real(lines(commands), settings), strict=True):
        ours = run(command.split(), table)
        if (normal(ours.stdout), normal(ours.stderr), ours.code) != (normal(stdout), normal(stderr), code):
            different.append(f"conntrack {command}\n--- real {code}\n{stdout}{stderr}--- ours {ours.code}\n{ours.stdout}{ours.stderr}")
    assert not different, "\n".join(different)


def test_save_and_load_round_trip(tmp_path):
    """-o save, -F, -R: the same lines again."""
    table = ConntrackTable(1000, 4096)
    for command in lines(LIFE)[:14]:
        if "gre" not in command:
            assert run(command.split(), table).code == 0, command
    saved = run(["-L", "-o", "save"], table).stdout
    path = tmp_path / "flows"
    path.write_text("# saved\n" + saved)
    run(["-F"], table)
    assert table.list() == []
    assert run(["-R", str(path)], table).code == 0
    assert normal(run(["-L", "-o", "save"], table).stdout) == normal(saved)


@pytest.mark.parametrize("line", ["-L", "-S", "-C", "-V", "-h", "-L expect", "-C expect", f"-G -p udp {ONE} --sport 1 --dport 2", "-R /dev/null", "-F", "-D -s 1.1.1.1"])
def test_what_a_file_of_commands_may_hold(tmp_path, line):
    """A file that names itself would otherwise be read for ever."""
    path = tmp_path / "flows"
    path.write_text(line.replace("/dev/null", str(path)) + "\n")
    real = subprocess.run(["unshare", "-n", REAL, "-R", path], capture_output=True, text=True, timeout=20)
    ours = run(["-R", str(path)], ConntrackTable(1000, 4096))
    assert ours.code == real.returncode
    assert not real.returncode or ours.stderr == real.stderr

