"""The table of mistakes of single commands, and of restore inputs: exit code and text."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from nfqfw.rules.applet import run
from nfqfw.rules.store import MemoryStore

ROWS = [[part.strip() for part in line.split(";;")] for line in Path(__file__).with_name("errors.txt").read_text().splitlines()
        if not line.startswith("#")]
SETUP = ("-N web", "-A INPUT -j web", "-A web -p tcp -j ACCEPT", "-N www", "-N a", "-N b", "-A a -j b", "-A b -j a", "-N self", "-A self -j self")


def prepared() -> MemoryStore:
    """Chains that the table speaks of: web is used, www is not, a and b lead to each other, self to itself."""
    store = MemoryStore()
    for command in SETUP:
        assert run(["iptables", *command.split()], store).code == 0
    return store


def words(stderr: str) -> str:
    return " / ".join(line for line in stderr.split("\n") if line.strip() and not line.startswith("Try `"))


@pytest.mark.parametrize("command, code, text", ROWS, ids=[row[0] for row in ROWS])
def test_command(command, code, text):
    argv = shlex.split(command)
    expected = text.replace("<prog-save vX>", "<P>").replace("<P>", f"{argv[0]} v1.8.13 (legacy)")
    result = run(argv, prepared())
    assert (result.code, words(result.stderr).strip()) == (int(code), expected.strip())
    if int(code) == 2 and "Bad argument" not in result.stderr:
        assert "-h' or '" in result.stderr.splitlines()[-1]


def test_hooks_are_looked_at_when_a_chain_is_linked():
    """spec 3.6: an owner match in an unlinked chain is fine, linking it to INPUT is not, to OUTPUT it is."""
    store = MemoryStore()
    assert run("iptables -N u1".split(), store).code == 0
    assert run("iptables -A u1 -m owner --uid-owner 0".split(), store).code == 0
    refused = run("iptables -A INPUT -j u1".split(), store)
    assert (refused.code, refused.stderr) == (1, "iptables: Invalid argument. Run `dmesg' for more information.\n")
    assert "owner match: used from hooks INPUT, but only valid from OUTPUT/POSTROUTING" in refused.detail
    assert run("iptables -A OUTPUT -j u1".split(), store).code == 0


def test_a_delete_that_brings_a_rule_in_reach_is_refused():
    store = MemoryStore()
    for command in ("-A INPUT -j ACCEPT", "-A INPUT -m owner --uid-owner 0 -j DROP"):
        assert run(["iptables", *command.split()], store).code == 0
    assert run("iptables -D INPUT 1".split(), store).code == 1
    assert len(run("iptables -S INPUT".split(), store).stdout.splitlines()) == 3


P = "iptables-restore v1.8.13 (legacy): "
AT = "Error occurred at line: "
# name, text, arguments, exit code, standard error (spec/iptables.md, appendix B)
RESTORES = (
    ("missing COMMIT", "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\n", "", 1, "iptables-restore: COMMIT expected at line 4"),
    ("bad port", "*filter\n-A INPUT -p tcp --dport 99999\nCOMMIT\n", "", 2, f"{P}invalid port/service `99999' specified / {AT}2"),
    ("unknown chain", "*filter\n:INPUT ACCEPT\n-A nosuch -j ACCEPT\nCOMMIT\n", "", 1, "iptables-restore: line 3 failed"),
    ("jump to unknown", "*filter\n-A INPUT -j nosuch\nCOMMIT\n", "", 2, f"{P}Couldn't load target `nosuch':No such file or directory / {AT}2"),
    ("forward reference", "*filter\n-A INPUT -j x\n:x - [0:0]\nCOMMIT\n", "", 2, f"{P}Couldn't load target `x':No such file or directory / {AT}2"),
    ("kernel refuses", "*filter\n-A INPUT -j TTL --ttl-set 3\nCOMMIT\n", "", 1, "iptables-restore: line 3 failed"),
    ("loop", "*filter\n:a -\n:b -\n-A a -j b\n-A b -j a\n-A INPUT -j a\nCOMMIT\n", "", 1, "iptables-restore: line 7 failed"),
    ("unreachable loop", "*filter\n:a -\n:b -\n-A a -j b\n-A b -j a\nCOMMIT\n", "", 0, ""),
    ("unknown table", "*nosuch\nCOMMIT\n", "", 2, f"{P}iptables-restore: unable to initialize table 'nosuch' / {AT}1"),
    ("garbage in table", "*filter\nfoo\nCOMMIT\n", "", 2, f"Bad argument `foo' / {AT}2"),
    ("garbage outside", "foo\n", "", 1, "iptables-restore: line 1 failed"),
    ("bad policy", "*filter\n:INPUT BOGUS [0:0]\nCOMMIT\n", "", 1, f"{P}Can't set policy `BOGUS' on `INPUT' line 2: Bad policy name"),
    ("user policy", "*filter\n:u DROP [0:0]\nCOMMIT\n", "", 1, f"{P}Can't set policy `DROP' on `u' line 2: Bad built-in chain name"),
    ("bad counters", "*filter\n:INPUT ACCEPT [a:b]\nCOMMIT\n", "", 2, f"{P}invalid policy counters for chain 'INPUT' / {AT}2"),
    ("bad counters -c", "*filter\n:INPUT ACCEPT [a:b]\nCOMMIT\n", "-c", 2, f"{P}invalid policy counters for chain 'INPUT' / {AT}2"),
    ("no counters -c", "*filter\n:INPUT ACCEPT\nCOMMIT\n", "-c", 2, f"{P}invalid policy counters for chain 'INPUT' / {AT}2"),
    ("no counters", "*filter\n:INPUT ACCEPT\nCOMMIT\n", "", 0, ""),
    ("no policy", "*filter\n:INPUT\nCOMMIT\n", "", 2, f"{P}iptables-restore: line 2 policy invalid / {AT}2"),
    ("duplicate chain", "*filter\n:a - [0:0]\n:a - [0:0]\nCOMMIT\n", "", 2, f"{P}error creating chain 'a':File exists / {AT}3"),
    ("duplicate chain -n", "*filter\n:a - [0:0]\n:a - [0:0]\nCOMMIT\n", "-n", 0, ""),
    ("second COMMIT", "*filter\nCOMMIT\nCOMMIT\n", "", 1, "iptables-restore: line 3 failed"),
    ("-t inside", "*filter\n-t nat -A INPUT\nCOMMIT\n", "", 2, f"{P}The -t option cannot be used in iptables-restore. / {AT}2"),
    ("no newline", "*filter\nCOMMIT", "", 2, f"Bad argument `COMMIT' / {AT}2"),
    ("space after COMMIT", "*filter\nCOMMIT \n", "", 2, f"Bad argument `COMMIT' / {AT}2"),
    ("new table", "*filter\n:INPUT ACCEPT\n*nat\nCOMMIT\n", "", 2, f"Bad argument `*nat' / {AT}3"),
    ("trailing comment", "*filter\n-A INPUT -j ACCEPT # x\nCOMMIT\n", "", 2, f"Bad argument `#' / {AT}2"),
    ("-X of used", "*filter\n:x -\n-A INPUT -j x\n-X x\nCOMMIT\n", "", 1, "iptables-restore: line 4 failed"),
    ("-D missing", "*filter\n-D INPUT -j ACCEPT\nCOMMIT\n", "", 1, "iptables-restore: line 2 failed"),
    ("-D num", "*filter\n-D INPUT 1\nCOMMIT\n", "", 1, "iptables-restore: line 2 failed"),
    ("-I too big", "*filter\n-I INPUT 9 -j ACCEPT\nCOMMIT\n", "", 1, "iptables-restore: line 2 failed"),
    ("-C missing", "*filter\n-C INPUT -j ACCEPT\nCOMMIT\n", "", 1, "iptables-restore: line 2 failed"),
    ("-N existing", "*filter\n-N INPUT\nCOMMIT\n", "", 1, "iptables-restore: line 2 failed"),
    ("long name", "*filter\n:abcdefghijklmnopqrstuvwxyz012 - [0:0]\nCOMMIT\n", "", 2,
     f"{P}Invalid chain name `abcdefghijklmnopqrstuvwxyz012' (28 chars max) / {AT}2"),
    ("slash", "*filter\n:a/b - [0:0]\nCOMMIT\n", "", 0, ""),
    ("named ACCEPT", "*filter\n:ACCEPT - [0:0]\nCOMMIT\n", "", 2, f"{P}error creating chain 'ACCEPT':File exists / {AT}2"),
    ("named LOG", "*filter\n:LOG - [0:0]\nCOMMIT\n", "", 0, ""),
    ("named -x", "*filter\n:-x - [0:0]\nCOMMIT\n", "", 0, ""),
    ("counters without ]", "*filter\n[1:2 -A INPUT\nCOMMIT\n", "-c", 2, f"{P}Bad line 2: need ] / {AT}2"),
    ("-t, kernel error", "*filter\n-A INPUT -j TTL --ttl-set 3\nCOMMIT\n", "-t", 0, ""),
    ("-t, parse error", "*filter\n-A INPUT -j TTL\nCOMMIT\n", "-t", 2, f"{P}TTL: You must specify an action / {AT}2"),
    ("-t, loop", "*filter\n:a -\n-A a -j a\n-A INPUT -j a\nCOMMIT\n", "-t", 0, ""),
    ("empty", "", "", 0, ""),
    ("comment only", "# x\n", "", 0, ""),
    ("-T other", "*filter\ngarbage --x\nCOMMIT\n", "-T nat", 0, ""),
    ("long line", f"*filter\n-A INPUT -m comment --comment {'x' * 10300}\nCOMMIT\n", "", 2, f"{P}Parameter too long! / {AT}2"),
    ("-4 and -6", "*filter\n-4 -A INPUT -j DROP\n-6 -A INPUT -j nosuch\nCOMMIT\n", "", 0, ""),
)


@pytest.mark.parametrize("text, options, code, expected", [row[1:] for row in RESTORES], ids=[row[0] for row in RESTORES])
def test_restore(text, options, code, expected):
    store = MemoryStore()
    before = store.ruleset(2)
    result = run(["iptables-restore", *options.split()], store, text)
    assert (result.code, words(result.stderr)) == (code, expected)
    if code:
        assert store.ruleset(2) is before, "a restore that fails changes nothing"


def test_restore_crlf():
    result = run(["iptables-restore"], MemoryStore(), "*filter\r\nCOMMIT\r\n")
    assert result.code == 2
    assert result.stderr.startswith(P + "iptables-restore: unable to initialize table 'filter\r'\n" + AT + "1\n")


@pytest.mark.parametrize("words", [["-A", "INPUT", "-i", 'a"b'], ["-A", "INPUT", "-i", "a b"], ["-N", 'a"b'], ["-A", "INPUT", "-i", "a\x01"],
                                   ["-A", "INPUT", "-m", "comment", "--comment", "a\nCOMMIT"]])
def test_what_a_save_file_cannot_hold_is_refused(words):
    """iptables-save prints names as they are: what iptables-restore would not read back the same is not taken (a named difference)."""
    store = MemoryStore()
    assert run(["iptables", *words], store).code == 2
    assert store.rulesets[2].table("filter").chains.keys() == {"INPUT", "FORWARD", "OUTPUT"}
