"""Names of labels beside the real tools, which read /etc/xtables/connlabel.conf: a private /etc for them, a path for us."""

import re
import shlex
import subprocess

import pytest

from nfqfw._conntrack import ConntrackTable
from nfqfw.conntrack.command import run
from nfqfw.ext import connlabels
from nfqfw.rules import applet
from nfqfw.rules.store import MemoryStore
from nfqfw.selftest import kernel as twin

pytestmark = pytest.mark.netns
with_tools = pytest.mark.skipif(bool(twin.missing("conntrack", "unshare")), reason=f"kernel twin: {twin.missing('conntrack', 'unshare')}")

FILE = ("# comment\n0 zero\n5 five\n6\tsix\n 7 seven\n90 last\n5 again\n0x9 hex\n010 oct\n11 a,b\n12 x-y_z.w\n13 Q\"q\n14 zero\n15 a&b\n16 d  \n"
        "17  e\n18 f # c\nnope\n19\n20 g\r\n-1 neg\n1x h\n22 é\n+23 plus\n999 big\n24 1\n25 77\n26 x:y\n27 a/b\n65535 wide\n08 nine\n28 no newline")
NAMES = ("zero", "five", "six", "seven", "last", "again", "hex", "oct", "9", "8", "10", "12", "x-y_z.w", 'Q"q', "a&b", "d", "e", "f", "g", "neg", "h",
         "x h", "é", "plus", "big", "1", "24", "77", "25", "x:y", "a/b", "nope", "wide", "nine", "no newline", "0x5", "200", "")
RULES = [f"iptables -A INPUT -m connlabel --label {shlex.quote(name)}" for name in NAMES] + [
    "iptables -A INPUT -m connlabel ! --label five", "iptables -A INPUT -m connlabel --label five --set", "iptables -S INPUT", "iptables -L INPUT"]
MAKE = "conntrack -I -p udp -s 1.1.1.1 -d 2.2.2.2 --sport 1 --dport 2 -t 100"
COMMANDS = [f"conntrack -L -l {shlex.quote(name)}" for name in NAMES if "," not in name and name] + [
    f"{MAKE} --label-add five,zero", "conntrack -L -o labels", "conntrack -L", "conntrack -L -o labels,extended", "conntrack -L -o labels,xml",
    "conntrack -L -o xml", "conntrack -L -o save", "conntrack -L -l five", "conntrack -L -l five,zero", "conntrack -L -l five,seven",
    "conntrack -L -l five,nosuch", "conntrack -U -f ipv4 -p udp --label-add zero,last", "conntrack -L -o labels -p tcp",
    "conntrack -U -f ipv4 -p udp --label-del five", "conntrack -U -f ipv4 -p udp --label-del seven", "conntrack -L -o labels",
    "conntrack -U -f ipv4 -p udp --label-del five,last", "conntrack -U -f ipv4 -p udp --label-del", "conntrack -U -f ipv4 -p udp --label-del zero",
    "conntrack -L -o labels", "conntrack -U -f ipv4 -p udp --label-add six --label-del seven", "conntrack -U -f ipv4 -p udp --label-add six,plus",
    "conntrack -L -o save,labels", "conntrack -G -p udp -s 1.1.1.1 -d 2.2.2.2 --sport 1 --dport 2 -o labels", "conntrack -D -p udp -l seven",
    "conntrack -G -p udp -s 1.1.1.1 -d 2.2.2.2 --sport 1 --dport 2 -o xml", "conntrack -U -f ipv4 -p udp -m 7 -o xml",
    "conntrack -D -p udp -l six -o labels", f"{MAKE} --label-add oct", "conntrack -D -p udp -o labels,xml", "conntrack -C"]
PRIVATE = """mount -t tmpfs none {room} && mkdir {room}/up {room}/work &&
mount -t overlay overlay -o lowerdir=/etc,upperdir={room}/up,workdir={room}/work /etc || exit 9
mkdir -p /etc/xtables
cp {file} /etc/xtables/connlabel.conf
"""


def normal(text: str) -> str:
    return re.sub(r"<id>\d+", "<id>N", re.sub(r"(udp +17 |<timeout>|-t )\d+", r"\1N", text))


def asked(lines: list[str], tmp_path, first: str = "") -> list[str]:
    """What the real tools say to each line, in namespaces of their own whose /etc has FILE; skips where there is no overlay."""
    room, file = tmp_path / "room", tmp_path / "connlabel.conf"
    room.mkdir()
    file.write_bytes(FILE.encode())
    script = [PRIVATE.format(room=room, file=file), first]
    script += [part for line in lines for part in ("echo @@", f"{line.replace('iptables ', 'iptables-legacy ', 1)} 2>&1", "echo code $?")]
    done = subprocess.run(["unshare", "-mn", "sh", "-c", "\n".join(script)], capture_output=True, text=True, timeout=120, check=False,
                          env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XTABLES_LOCKFILE": str(tmp_path / "lock")})
    if done.returncode == 9:
        pytest.skip("no private /etc: " + done.stderr.strip())
    return [normal(part) for part in done.stdout.split("@@\n")[1:]]


def unlike(lines, mine, theirs):
    """Lines to which the answers differ, with both."""
    assert len(mine) == len(theirs) == len(lines)
    return [(line, a, b) for line, a, b in zip(lines, mine, theirs) if a != b]


@pytest.fixture
def ours(tmp_path, monkeypatch):
    file = tmp_path / "ours.conf"
    file.write_bytes(FILE.encode())
    monkeypatch.setattr(connlabels, "FILE", str(file))
    return file


@with_tools
def test_rules_name_labels_as_iptables_does(tmp_path, ours):
    theirs = asked(RULES, tmp_path)
    store = MemoryStore()
    results = [applet.run(shlex.split(line), store) for line in RULES]
    mine = [f"{r.stdout}{r.stderr}code {r.code}\n" for r in results]
    versions = [re.sub(r"iptables v1\.8\.\d+ \(legacy\)", "iptables", text) for text in (*mine, *theirs)]
    assert unlike(RULES, versions[:len(mine)], versions[len(mine):]) == []


@with_tools
def test_commands_name_labels_as_the_tool_does(tmp_path, ours):
    theirs = asked(COMMANDS, tmp_path, "iptables-legacy -A INPUT -m connlabel --label 127")
    table = ConntrackTable(100, 4096)
    results = [run(shlex.split(line)[1:], table, now_ns=10**9 * 1000) for line in COMMANDS]
    mine = [normal(f"{r.stdout}{r.stderr}code {r.code}\n") for r in results]
    ordered = [sorted(text.splitlines()) for text in (*mine, *theirs)]          # the tool's two outputs come mixed
    assert unlike(COMMANDS, ordered[:len(mine)], ordered[len(mine):]) == []


def test_a_changed_file_is_read_again(ours):
    assert connlabels.name_of(5) == "five"
    ours.write_text("5 cinque\n")
    assert connlabels.name_of(5) == "cinque" and connlabels.named() == {"cinque": 5}
    ours.unlink()
    assert connlabels.named() == {}


def test_without_names_labels_are_numbers(ours):
    """An improvement: the tool then takes and shows none."""
    ours.unlink()
    table = ConntrackTable(100, 4096)
    run(shlex.split(MAKE)[1:] + ["--label-add", "5,127"], table, now_ns=10**9)
    assert f" labels={1 << 127 | 32:#x}\n" in run(["-L", "-l", "5"], table, now_ns=10**9).stdout
    assert run(["-L", "-l", "128"], table, now_ns=10**9).code == 2


def test_deleting_a_high_label_leaves_the_others(ours):
    """The tool's mistake: with one of the labels 96 to 127 among those to be deleted it deletes all."""
    ours.write_text("0 zero\n5 five\n127 last\n")
    table = ConntrackTable(100, 4096)
    run(shlex.split(MAKE)[1:] + ["--label-add", "zero,five,last"], table, now_ns=10**9)
    assert run(shlex.split("-U -f ipv4 -p udp --label-del last"), table, now_ns=10**9).stdout.endswith(" labels=zero,five\n")
